import { readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, it, vi } from 'vitest';
import type { ExpertBackend } from '#turnout/experts/backend.js';
import { wholeBatch } from '#turnout/experts/batches.js';
import { openInline } from '#turnout/experts/inline.js';
import { openProcesses } from '#turnout/experts/processes.js';
import { bytesOf } from '../contracts/backend.contract.js';
import { temporaryFolder } from '../support/babel.js';
import { temporaryExperts } from '../support/experts.js';
import { childrenOf, openDescriptors, pidsOf, stateOf } from '../support/processes.js';

const HIDDEN = 64;
const LANES = 4;
const KILLS = 200;
/** What the second hundred kills may add to the memory of this process: less than the numbers of one call of each. */
const GROWTH_BYTES = 24 * 2 ** 20;

describe.skipIf(process.platform !== 'linux')('200 kills under load', () => {
  it('lose no call and leave nothing behind', { timeout: 240_000 }, async () => {
    const set = await temporaryExperts({ experts: LANES, hidden: HIDDEN, inner: 128, activation: 'relu' });
    await using inline = await openInline(set.files);
    const x = new Float32Array(300 * HIDDEN).map((_, i) => Math.cos(i));
    const batches = set.files.map((_, expert) => wholeBatch(expert, x, HIDDEN));
    const expected = (await inline.run(batches)).outputs.map((y) => bytesOf(y));
    const before = { children: childrenOf(process.pid) };
    // Where temporary files would come to lie, those of the processes too.
    const folder = temporaryFolder();
    vi.stubEnv('TMPDIR', folder);
    const backend = await openProcesses(set.files, {
      devices: ['cpu', 'cpu', 'cpu', 'cpu'],
      oneProcessPer: 'device',
      replicas: 2,
    });
    let stopped = false;
    let calls = 0;
    const caller = async () => {
      while (!stopped) {
        const { outputs } = await backend.run(batches, { timeoutMs: 20_000 });
        for (const [i, y] of outputs.entries()) {
          expect(Buffer.compare(bytesOf(y), expected[i]!)).toBe(0);
        }
        calls++;
        await sleep(5);
      }
    };
    const callers = Promise.all(Array.from({ length: 2 }, caller));
    // A call that fails ends the test.
    callers.catch(() => {
      stopped = true;
    });
    let early = { descriptors: 0, memory: 0 };
    for (let round = 0; round < KILLS / 2 && !stopped; round++) {
      // Every expert has a replica that lives on, whichever two of these are killed.
      for (const lane of [round % 2, (round % 2) + 2])
        process.kill(backend.lanes()[lane]!.process!.pid!, 'SIGKILL');
      await back(backend, 2 * (round + 1));
      if (round === KILLS / 4) early = { descriptors: openDescriptors(), memory: memory() };
    }
    stopped = true;
    await callers;
    expect(calls).toBeGreaterThan(20);
    // What the last kills left is cleared away in a moment.
    await expect.poll(openDescriptors, { timeout: 5000 }).toBeLessThanOrEqual(early.descriptors);
    await expect.poll(() => memory() - early.memory, { timeout: 5000 }).toBeLessThan(GROWTH_BYTES);
    const pids = pidsOf(backend);
    expect(childrenOf(process.pid).filter((pid) => !before.children.includes(pid))).toEqual(
      pids.toSorted((a, b) => a - b),
    );
    await backend.close();
    expect(pids.map(stateOf)).toEqual(pids.map(() => undefined));
    expect(childrenOf(process.pid)).toEqual(before.children);
    await set.remove();
    expect(readdirSync(folder)).toEqual([]);
    expect(readdirSync('/dev/shm').filter((name) => name.startsWith(`turnout-${process.pid}-`))).toEqual([]);
    vi.unstubAllEnvs();
  });
});

async function back(backend: ExpertBackend, restarts: number): Promise<void> {
  await expect
    .poll(
      () =>
        backend.lanes().every(({ process }) => process!.pid !== undefined) &&
        backend.lanes().reduce((sum, lane) => sum + lane.restarts, 0) === restarts,
      { timeout: 10_000, interval: 2 },
    )
    .toBe(true);
}

function memory(): number {
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc') as () => void;
  gc();
  gc();
  return process.memoryUsage.rss();
}
