import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { text } from 'node:stream/consumers';
import { encodeFrame, type Frame, type FrameMatrix, FrameReader } from '#turnout/experts/frames.js';

const HOST = join(import.meta.dirname, '..', '..', 'dist', 'src', 'experts', 'process-host.js');

/** The program of an expert process, spoken to without a carrier; requests are numbered here. */
export function startExpertProcess(env: Readonly<Record<string, string>>) {
  const child = spawn(process.execPath, [HOST], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'inherit', 'pipe', 'pipe'],
  });
  const link = child.stdio[3] as Duplex;
  const stderr = text(child.stderr!);
  const exited = once(child, 'exit');
  const answers: Frame[] = [];
  let wake = () => {};
  const reader = new FrameReader((frame) => {
    answers.push(frame);
    wake();
  });
  link.on('data', (chunk) => reader.push(chunk));
  let id = 0;

  /** Throws where the process ends instead of answering. */
  async function ask(message: { readonly op: string }, matrix?: FrameMatrix): Promise<Frame> {
    const answered = new Promise<void>((resolve) => {
      wake = resolve;
    });
    for (const part of encodeFrame({ ...message, id: ++id }, matrix)) link.write(part);
    const ended = exited.then(async ([code, signal]) => {
      throw new Error(`the expert process ended (${signal ?? code}): ${await stderr}`);
    });
    await Promise.race([answered, ended]);
    return answers.shift()!;
  }

  return { ask, exited, stderr, kill: () => child.kill('SIGKILL') };
}
