import { execFile } from 'node:child_process';
import { rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { wholeBatch } from '#turnout/experts/batches.js';
import { openInline } from '#turnout/experts/inline.js';
import { openProcesses, type ProcessesBackend, type ProcessesOptions } from '#turnout/experts/processes.js';
import { MoeLayer } from '#turnout/moe-layer.js';
import { createRouter } from '#turnout/router/create.js';
import { presetOptions } from '#turnout/router/presets.js';
import { DROP_REASONS } from '#turnout/router/routing.js';
import { matrix } from '#turnout/tensor.js';
import { bytesOf } from '../contracts/backend.contract.js';
import { normals, type TemporaryExperts, temporaryExperts } from '../support/experts.js';
import { pidsOf, stateOf } from '../support/processes.js';

const HIDDEN = 64;
const LINUX = process.platform === 'linux';
let set: TemporaryExperts;
beforeAll(async () => {
  set = await temporaryExperts({ experts: 3, hidden: HIDDEN, inner: 256, activation: 'swiglu' });
});
afterAll(() => set.remove());

const open = (options: ProcessesOptions = {}) => openProcesses(set.files, options);
const batch = (expert: number, rows = 4) =>
  wholeBatch(expert, new Float32Array(rows * HIDDEN).fill(0.3), HIDDEN);
const stop = (backend: ProcessesBackend, lane: number) => process.kill(pidsOf(backend)[lane]!, 'SIGSTOP');

/** A backend of which one process, the first that has a call, never answers it. */
async function silentOnce(): Promise<ProcessesBackend> {
  process.env.ROGUE_FAULT = 'silent';
  process.env.ROGUE_ONCE = join(set.folder, 'once');
  await writeFile(process.env.ROGUE_ONCE, '');
  try {
    const program = fileURLToPath(new URL('../support/rogue-host.mjs', import.meta.url));
    return await open({ program, onLostExpert: 'drop' });
  } finally {
    delete process.env.ROGUE_FAULT;
    delete process.env.ROGUE_ONCE;
  }
}

/** Makes expert 1 impossible to open again, as long as `use` takes. */
async function withoutExpert1(use: () => Promise<void>): Promise<void> {
  const { path } = set.files[1]!;
  await rename(path, `${path}.away`);
  try {
    await use();
  } finally {
    await rename(`${path}.away`, path);
  }
}

describe('an expert that cannot be had', () => {
  it('fails its calls and no others, says why, and is back when it can be', async () => {
    await using backend = await open();
    await withoutExpert1(async () => {
      process.kill(pidsOf(backend)[1]!, 'SIGKILL');
      await expect(backend.run([batch(0), batch(1)])).rejects.toMatchObject({
        code: 'TURNOUT_EXPERT_LOST',
        message: expect.stringMatching(/expert 1 .* lane 1 .*expert-001\.onnx/),
        details: { expert: 1, lane: 1, device: 'cpu' },
      });
      // Its circuit is open: calls are refused at once, others go on.
      expect(backend.lanes()[1]).toMatchObject({ state: 'dead', process: { circuit: 'open' } });
      const from = performance.now();
      await expect(backend.run([batch(1)])).rejects.toMatchObject({ code: 'TURNOUT_EXPERT_LOST' });
      expect(performance.now() - from).toBeLessThan(200);
      expect((await backend.run([batch(0), batch(2)])).outputs).toHaveLength(2);
    });
    await expect.poll(() => backend.lanes()[1]!.state, { timeout: 15_000 }).toBe('ready');
    expect(backend.lanes()[1]!.process!.circuit).toBe('half-open');
    expect((await backend.run([batch(1)])).outputs).toHaveLength(1);
    expect(backend.lanes()[1]!.process!.circuit).toBe('closed');
  }, 30_000);

  it('is dropped where that was asked for', async () => {
    await using inline = await openInline(set.files);
    await using backend = await open({ onLostExpert: 'drop' });
    const expected = await inline.run([batch(0), batch(2)]);
    await withoutExpert1(async () => {
      process.kill(pidsOf(backend)[1]!, 'SIGKILL');
      const { outputs, lost } = await backend.run([batch(0), batch(1), batch(2)]);
      expect(lost).toEqual([1]);
      expect(outputs).toEqual([expected.outputs[0], new Float32Array(0), expected.outputs[1]]);
    });
  }, 30_000);

  it('is dropped before the deadline where it does not answer', async () => {
    await using backend = await silentOnce();
    const from = performance.now();
    const { outputs, lost } = await backend.run([batch(1)], { timeoutMs: 1000 });
    expect(performance.now() - from).toBeGreaterThan(800);
    expect([outputs, lost]).toEqual([[new Float32Array(0)], [0]]);
    expect((await backend.run([batch(0), batch(2)], { timeoutMs: 5000 })).lost).toBeUndefined();
  });

  it('is out of the sum of a layer, and the routing says so', async () => {
    await using backend = await silentOnce();
    const router = createRouter(presetOptions('mixtral'), 3);
    const layer = new MoeLayer({ name: 'layer', index: 0, router, backend });
    const random = normals(5);
    const x = matrix(Float32Array.from({ length: 8 * HIDDEN }, random), 8, HIDDEN);
    const logits = matrix(Float32Array.from({ length: 24 }, random), 8, 3);
    const { routing } = await layer.forward(x, { logits, timeoutMs: 1000 });
    const whole = await layer.forward(x, { logits, timeoutMs: 5000 });
    const lost = DROP_REASONS.indexOf('lost');
    const gone = new Set([...routing.expert].filter((_, a) => routing.reason[a] === lost));
    expect(gone.size).toBe(1);
    for (const [a, expert] of routing.expert.entries()) {
      if (gone.has(expert)) expect([routing.reason[a], routing.weight[a]]).toEqual([lost, 0]);
      else expect(routing.weight[a]).toBeGreaterThanOrEqual(whole.routing.weight[a]!);
    }
  });

  it('ends its call at the deadline otherwise', async () => {
    await using backend = await open();
    stop(backend, 1);
    const from = performance.now();
    await expect(backend.run([batch(0), batch(1)], { timeoutMs: 50 })).rejects.toMatchObject({
      code: 'TURNOUT_DEADLINE_EXCEEDED',
    });
    expect(performance.now() - from).toBeLessThan(500);
    expect((await backend.run([batch(1)])).outputs).toHaveLength(1);
  });

  it('does not keep a close waiting for a call that is over, in a process that never answers', async () => {
    const backend = await silentOnce();
    // Without the expert or, on a busy machine, too late: over both ways.
    await Promise.allSettled([backend.run([batch(1)], { timeoutMs: 100 })]);
    const from = performance.now();
    await backend.close();
    // The process is given five seconds to end by itself.
    expect(performance.now() - from).toBeLessThan(10_000);
  }, 30_000);

  it('does not keep a close waiting', async () => {
    const backend = await open();
    for (const lane of [0, 1, 2]) stop(backend, lane);
    const calls = [0, 1, 2].map((expert) => backend.run([batch(expert)], { timeoutMs: 10 }));
    expect((await Promise.allSettled(calls)).map(({ status }) => status)).toEqual(Array(3).fill('rejected'));
    await backend.close();
  });
});

describe.skipIf(!LINUX)('a process without memory', () => {
  /** Its activations take 400 MB each. */
  const HUGE = 400_000;
  const BIG = 100_000;

  it('is replaced; a call that none can hold ends with a clear error, and others go on', async () => {
    await using backend = await open({ limits: { memoryBytes: 700 * 2 ** 20 } });
    await expect(backend.run([batch(1, HUGE)])).rejects.toMatchObject({
      code: 'TURNOUT_EXPERT_LOST',
      message: expect.stringMatching(/memory|allocation|SIGABRT|SIGTRAP|SIGSEGV/),
    });
    expect((await backend.run([batch(0)])).outputs).toHaveLength(1);
    await expect.poll(() => backend.lanes()[1]!.state, { timeout: 15_000 }).toBe('ready');
    expect((await backend.run([batch(1)])).outputs).toHaveLength(1);
  }, 60_000);

  it('that was limited from outside: its call ends with the right numbers, after a restart', async () => {
    await using inline = await openInline(set.files);
    await using backend = await open();
    const [, pid] = pidsOf(backend);
    await promisify(execFile)('prlimit', ['--pid', String(pid), `--data=${120 * 2 ** 20}`]);
    const { outputs } = await backend.run([batch(1, BIG)]);
    const expected = await inline.run([batch(1, BIG)]);
    expect(Buffer.compare(bytesOf(outputs[0]!), bytesOf(expected.outputs[0]!))).toBe(0);
    expect(backend.lanes()[1]!.restarts).toBe(1);
  }, 60_000);
});

it('a poisoned call does not take the others with it for ever', async () => {
  const program = fileURLToPath(new URL('../support/poisoned-host.mjs', import.meta.url));
  await using backend = await open({
    program,
    devices: ['cpu', 'cpu'],
    oneProcessPer: 'device',
    replicas: 2,
  });
  const poison = wholeBatch(0, new Float32Array(HIDDEN).fill(666), HIDDEN);
  const outcome = backend.run([poison]).catch((error: unknown) => error);
  await sleep(20);
  const innocent = backend.run([batch(1)]);
  expect(await outcome).toMatchObject({ code: 'TURNOUT_EXPERT_LOST' });
  expect((await innocent).outputs).toHaveLength(1);
}, 30_000);

it('a carrier thread that ends takes its processes along, and both are replaced', async () => {
  const threads: import('node:worker_threads').Worker[] = [];
  const listen = (worker: (typeof threads)[number]) => void threads.push(worker);
  process.on('worker', listen);
  try {
    await using backend = await open();
    const before = pidsOf(backend);
    await threads[0]!.terminate();
    await expect
      .poll(() => backend.lanes().every(({ state, restarts }) => state === 'ready' && restarts >= 0), {
        timeout: 5000,
      })
      .toBe(true);
    const { outputs } = await backend.run([batch(0), batch(1), batch(2)]);
    expect(outputs).toHaveLength(3);
    expect(pidsOf(backend)).not.toEqual(before);
    // Those of the thread that ended are gone, and no zombie is left of them.
    expect(before.filter((pid) => stateOf(pid) !== undefined)).toEqual(
      before.filter((pid) => pidsOf(backend).includes(pid)),
    );
  } finally {
    process.off('worker', listen);
  }
});
