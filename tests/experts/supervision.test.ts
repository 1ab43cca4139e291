import { execFile } from 'node:child_process';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { TurnoutError } from '#turnout/errors.js';
import type { ExpertBackend, ExpertBatch } from '#turnout/experts/backend.js';
import { wholeBatch } from '#turnout/experts/batches.js';
import { openInline } from '#turnout/experts/inline.js';
import type { LaneEvent } from '#turnout/experts/process-lane.js';
import { openProcesses, type ProcessesOptions } from '#turnout/experts/processes.js';
import { bytesOf } from '../contracts/backend.contract.js';
import { normals, type TemporaryExperts, temporaryExperts } from '../support/experts.js';
import { allReady, pidsOf, signal, stateOf } from '../support/processes.js';

const HIDDEN = 64;
/** One heavy call takes some tenths of a second. */
const HEAVY_ROWS = 15_000;

let set: TemporaryExperts;
let inline: ExpertBackend;
beforeAll(async () => {
  set = await temporaryExperts({ experts: 4, hidden: HIDDEN, inner: 256, activation: 'swiglu' });
  inline = await openInline(set.files);
});
afterAll(async () => {
  await inline.close();
  await set.remove();
});

const open = (options: ProcessesOptions = {}) =>
  openProcesses(set.files, { devices: ['cpu', 'cpu'], oneProcessPer: 'device', ...options });

function callOf(rows: number, experts = [0, 1, 2, 3], seed = rows): ExpertBatch[] {
  const random = normals(seed);
  return experts.map((expert) =>
    wholeBatch(expert, Float32Array.from({ length: rows * HIDDEN }, random), HIDDEN),
  );
}

async function expectRight(backend: ExpertBackend, batches: ExpertBatch[], options = {}): Promise<void> {
  const expected = await inline.run(batches);
  const { outputs, lost } = await backend.run(batches, options);
  expect(lost).toBeUndefined();
  for (const [i, output] of outputs.entries()) {
    // Far faster than toEqual on millions of numbers.
    expect(Buffer.compare(bytesOf(output), bytesOf(expected.outputs[i]!))).toBe(0);
  }
}

describe('a process that is killed', () => {
  it('in the middle of a call: the call ends with the right numbers, from a replica', async () => {
    await using backend = await open({ replicas: 2 });
    const [victim] = pidsOf(backend);
    setTimeout(() => process.kill(victim!, 'SIGKILL'), 30);
    await expectRight(backend, callOf(HEAVY_ROWS));
    expect(backend.lanes()[0]!.process!.lastDeath).toContain('SIGKILL');
    await allReady(backend);
    expect(backend.lanes().map(({ restarts }) => restarts)).toEqual([1, 0]);
  });

  it('in the middle of a call: without a replica, after the restart', async () => {
    await using backend = await open();
    const [victim] = pidsOf(backend);
    setTimeout(() => process.kill(victim!, 'SIGKILL'), 30);
    await expectRight(backend, callOf(HEAVY_ROWS));
    expect(backend.lanes().map(({ restarts }) => restarts)).toEqual([1, 0]);
  });

  it('while idle: is replaced at once', async () => {
    await using backend = await open();
    const [victim] = pidsOf(backend);
    process.kill(victim!, 'SIGKILL');
    while (backend.lanes()[0]!.restarts === 0) await sleep(1);
    await allReady(backend);
    expect(pidsOf(backend)[0]).not.toBe(victim);
    await expectRight(backend, callOf(10));
  });

  it('while it starts: starts again', async () => {
    await using backend = await open();
    process.kill(pidsOf(backend)[0]!, 'SIGKILL');
    const call = expectRight(backend, callOf(10));
    for (let i = 0; i < 3; i++) {
      await sleep(20);
      await promisify(execFile)('pkill', ['-KILL', '-P', String(process.pid), '-f', 'process-host']).catch(
        () => {},
      );
    }
    await call;
  });
});

it('a process that is stopped is replaced, and its call ends with the right numbers', async () => {
  await using backend = await open();
  const [victim] = pidsOf(backend);
  process.kill(victim!, 'SIGSTOP');
  await expectRight(backend, callOf(100), { timeoutMs: 5000 });
  expect(backend.lanes()[0]!.process!.lastDeath).toContain('was stopped');
  expect(stateOf(victim!)).toBeUndefined();
});

it('a process that gives no answer is replaced', async () => {
  await using backend = await open({ limits: { answerMs: 200 } });
  const endless = callOf(200_000, [0]);
  await expect(backend.run(endless)).rejects.toMatchObject({ code: 'TURNOUT_EXPERT_LOST' });
  expect(backend.lanes()[0]!.process!.lastDeath).toContain('gave no answer in 200 ms');
}, 60_000);

it('killed or stopped at any moment: every call ends in its time, with the right numbers or a clear error', async () => {
  await using backend = await open({ oneProcessPer: 'expert' });
  const batches = callOf(200);
  const expected = (await inline.run(batches)).outputs.map((y) => Buffer.from(bytesOf(y)));
  const outcomes: string[] = [];
  let over = false;
  const caller = async () => {
    while (!over) {
      const from = performance.now();
      const outcome = await backend.run(batches, { timeoutMs: 3000 }).then(
        ({ outputs }) => {
          for (const [i, y] of outputs.entries()) expect(Buffer.compare(bytesOf(y), expected[i]!)).toBe(0);
          return 'right';
        },
        (error: TurnoutError) => error.code,
      );
      outcomes.push(outcome);
      expect(performance.now() - from).toBeLessThan(3500);
      await sleep(1);
    }
  };
  const callers = Promise.all(Array.from({ length: 4 }, caller));
  for (let i = 0; i < 80; i++) {
    const pids = pidsOf(backend);
    if (pids.length > 0) signal(pids[i % pids.length]!, i % 8 === 0 ? 'SIGSTOP' : 'SIGKILL');
    await sleep((i * 37) % 90);
  }
  over = true;
  await callers;
  const clear = ['right', 'TURNOUT_EXPERT_LOST', 'TURNOUT_DEADLINE_EXCEEDED'];
  expect(outcomes.filter((outcome) => !clear.includes(outcome))).toEqual([]);
  // A lane that died five times in a row by the end refuses calls until its next start.
  await allReady(backend, 15_000);
  await expectRight(backend, batches, { timeoutMs: 10_000 });
}, 60_000);

it('tells observers the states of its lanes', async () => {
  const events: LaneEvent[] = [];
  const listen = (message: unknown) => void events.push(message as LaneEvent);
  subscribe('turnout:lane', listen);
  try {
    const backend = await open({ devices: ['cpu'] });
    const [pid] = pidsOf(backend);
    await backend.run(callOf(1));
    process.kill(pid!, 'SIGKILL');
    while (backend.lanes()[0]!.restarts === 0) await sleep(1);
    await allReady(backend);
    await backend.close();
  } finally {
    unsubscribe('turnout:lane', listen);
  }
  const states = events.map(({ state }) => state);
  expect(states).toEqual(['starting', 'ready', 'busy', 'ready', 'dead', 'starting', 'ready', 'draining']);
  expect(events[4]!.reason).toContain('SIGKILL');
});
