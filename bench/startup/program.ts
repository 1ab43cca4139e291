import { answerAsks } from '../server/child.js';
import { privateMemory } from './memory.js';
import { type Opened, openTask } from './opened.js';
import type { FirstCall, Sample, Task } from './task.js';

/* One cold start, in a process of its own: its memory and its code are as fresh as those of a server that starts. */

const answers = {
  async sample({ task, first }: { task: Task; first: FirstCall }): Promise<Sample> {
    const bootMs = performance.now();
    const before = privateMemory([process.pid]);
    const began = performance.now();
    const opened = await openTask(task);
    const openMs = performance.now() - began;
    const added = () => addedMemory(opened, before);
    const afterOpen = added();
    const x = Float32Array.from({ length: first.hidden }, (_, i) => Math.sin(i + 1));
    const called = performance.now();
    const y = await opened.call?.(first.expert, x);
    const text = await opened.generate?.();
    const firstMs = performance.now() - called;
    const afterCall = added();
    const outputs = y ? [y] : [];
    for (const expert of opened.call ? first.others : []) outputs.push(await opened.call!(expert, x));
    await opened.close?.();
    const { readBytes } = opened;
    return {
      bootMs,
      openMs,
      firstMs,
      ...(afterOpen && { opened: afterOpen }),
      ...(afterCall && { called: afterCall }),
      outputs,
      ...(text !== undefined && { text }),
      ...(readBytes !== undefined && { readBytes }),
    };
  },
};
export type StartupProcess = typeof answers;

function addedMemory(opened: Opened, before: ReturnType<typeof privateMemory>) {
  const now = privateMemory([process.pid, ...(opened.pids?.() ?? [])]);
  if (!now || !before) return undefined;
  return {
    privateBytes: now.privateBytes - before.privateBytes,
    anonymousBytes: now.anonymousBytes - before.anonymousBytes,
  };
}

answerAsks(answers);
