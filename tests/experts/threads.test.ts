import { execFile } from 'node:child_process';
import { rename } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Worker } from 'node:worker_threads';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { wholeBatch } from '#turnout/experts/batches.js';
import { openInline } from '#turnout/experts/inline.js';
import { openThreads } from '#turnout/experts/threads.js';
import { bytesIn, matrix } from '#turnout/tensor.js';
import { backendContract } from '../contracts/backend.contract.js';
import { normals, referenceExpert, type TemporaryExperts, temporaryExperts } from '../support/experts.js';

backendContract('threads', (files, options) => openThreads(files, { ...options, lanes: 2 }));
backendContract('threads', (files, options) => openThreads(files, { ...options, lanes: 5 }));
describe('each expert on one lane', () => {
  backendContract('threads', (files, options) => openThreads(files, { ...options, lanes: 2, replicas: 1 }));
});

const HIDDEN = 64;
/** Takes a tenth of a second or more on one lane. */
const HEAVY_ROWS = 50_000;
const X = matrix(new Float32Array(HIDDEN), 1, HIDDEN);
const heavy = () => [{ expert: 0, x: X, rows: new Int32Array(HEAVY_ROWS) }];
const light = () => [wholeBatch(0, new Float32Array(HIDDEN), HIDDEN)];

describe('thread lanes', () => {
  let set: TemporaryExperts;
  /** Threads started since the test began, in the order of their lanes. */
  let threads: Worker[];
  const note = (thread: Worker) => threads.push(thread);

  beforeAll(async () => {
    set = await temporaryExperts({ experts: 4, hidden: HIDDEN, inner: 256, activation: 'swiglu' });
  });
  afterAll(() => set.remove());
  beforeEach(() => {
    threads = [];
    process.on('worker', note);
  });
  afterEach(() => {
    process.off('worker', note);
  });

  it('are as many as asked for, or as there are cores', async () => {
    const { availableParallelism } = await import('node:os');
    for (const [options, count] of [
      [{ lanes: 3 }, 3],
      [{}, availableParallelism()],
    ] as const) {
      threads = [];
      await using backend = await openThreads(set.files, options);
      expect(backend.lanes()).toHaveLength(count);
      expect(threads).toHaveLength(count);
    }
    for (const lanes of [0, -1, 1.5, Number.NaN, 100_000]) {
      await expect(openThreads(set.files, { lanes })).rejects.toMatchObject({
        code: 'TURNOUT_OPTIONS_INVALID',
      });
    }
  });

  it('hold as many of the experts as replicas say', async () => {
    for (const [options, held] of [
      [{ lanes: 3, replicas: 1 }, [[0, 3], [1], [2]]],
      [{ lanes: 2, replicas: 2 }, [set.files.map((_, e) => e), set.files.map((_, e) => e)]],
      [
        { lanes: 3, replicas: 2 },
        [
          [0, 2, 3],
          [0, 1, 3],
          [1, 2],
        ],
      ],
      [{ lanes: 6, replicas: 1 }, [[0], [1], [2], [3]]],
    ] as const) {
      await using backend = await openThreads(set.files, options);
      expect(backend.lanes().map(({ experts }) => experts)).toEqual(held);
      const x = new Float32Array(HIDDEN).fill(0.5);
      const batches = set.files.map((_, expert) => wholeBatch(expert, x, HIDDEN));
      for (const [e, y] of (await backend.run(batches)).outputs.entries()) {
        const expected = referenceExpert(set, e, x);
        for (const [i, value] of y.entries()) expect(value).toBeCloseTo(expected[i]!, 5);
      }
    }
    for (const replicas of [0, 3, 1.5, Number.NaN]) {
      await expect(openThreads(set.files, { lanes: 2, replicas })).rejects.toMatchObject({
        code: 'TURNOUT_OPTIONS_INVALID',
        message: `replicas: expected a whole number from 1 to 2, got ${replicas}`,
        details: { replicas },
      });
    }
  });

  it('share the rows of one busy expert', async () => {
    await using backend = await openThreads(set.files, { lanes: 4 });
    await backend.run([{ expert: 2, x: X, rows: new Int32Array(4 * HEAVY_ROWS) }]);
    const shares = backend.lanes().map(({ rows }) => rows / HEAVY_ROWS);
    expect(shares.reduce((sum, share) => sum + share)).toBe(4);
    // A thread that the system lets wait may have its part taken off it.
    for (const share of shares) expect(share).toBeLessThan(2.1);
  });

  it('give the bits of an int4 expert that was not split', async () => {
    // ONNX Runtime computes rows of such groups in pairs, and an odd last one with other rounding.
    const int4 = { hidden: 256, inner: 256, activation: 'swiglu', dtype: 'int4', group: 128 } as const;
    const made = await temporaryExperts({ experts: 1, ...int4 });
    try {
      await using inline = await openInline(made.files);
      await using backend = await openThreads(made.files, { lanes: 2 });
      const allTook = () => backend.lanes().every(({ rows }) => rows > 0);
      let calls = 0;
      // A thread that the system lets wait may have its part taken off it, but not each time.
      do {
        for (const rows of [255, 257, 259, 301]) {
          const random = normals(rows);
          const call = [wholeBatch(0, Float32Array.from({ length: rows * 256 }, random), 256)];
          const [expected, got] = await Promise.all([inline.run(call), backend.run(call)]);
          expect(Buffer.compare(bytesIn(got.outputs[0]!), bytesIn(expected.outputs[0]!))).toBe(0);
          calls++;
        }
      } while (!allTook() && calls < 80);
      expect(allTook()).toBe(true);
      expect(backend.lanes().reduce((sum, { batches }) => sum + batches, 0)).toBe(2 * calls);
    } finally {
      await made.remove();
    }
  });

  it('share calls that come one by one', async () => {
    await using backend = await openThreads(set.files, { lanes: 2 });
    await Promise.all(Array.from({ length: 8 }, () => backend.run(light())));
    expect(backend.lanes().map(({ calls }) => calls)).toEqual([4, 4]);
  });

  describe('that die', () => {
    it('fail their call with a clear error at once, and are replaced', async () => {
      await using backend = await openThreads(set.files, { lanes: 2 });
      const running = backend.run(heavy());
      setTimeout(() => void threads[1]!.terminate(), 20);
      await expect(running).rejects.toMatchObject({
        code: 'TURNOUT_LANE_DIED',
        details: { lane: 1 },
        message: expect.stringContaining('lane 1'),
      });
      expect((await backend.run(light())).outputs).toHaveLength(1);
      const four = await backend.run(
        [0, 1, 2, 3].map((expert) => wholeBatch(expert, new Float32Array(HIDDEN), HIDDEN)),
      );
      expect(four.outputs).toHaveLength(4);
      expect(backend.lanes()).toMatchObject([{ restarts: 0 }, { restarts: 1, state: 'ready' }]);
      expect(threads).toHaveLength(3);
    });

    it('fail the calls that wait for them, and no others', async () => {
      await using backend = await openThreads(set.files, { lanes: 1 });
      const waiting = Array.from({ length: 5 }, () => backend.run(heavy()));
      setTimeout(() => void threads[0]!.terminate(), 20);
      for (const outcome of await Promise.allSettled(waiting)) {
        expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'TURNOUT_LANE_DIED' } });
      }
      expect((await backend.run(light())).outputs).toHaveLength(1);
    });

    it('while idle are replaced too', async () => {
      await using backend = await openThreads(set.files, { lanes: 1 });
      await threads[0]!.terminate();
      await vi.waitFor(() => expect(backend.lanes()[0]).toMatchObject({ state: 'ready', restarts: 1 }), 5000);
      expect((await backend.run(light())).outputs).toHaveLength(1);
    });

    it('again and again, even while they start, leave nothing hanging', async () => {
      await using backend = await openThreads(set.files, { lanes: 1 });
      for (let i = 0; i < 5; i++) {
        void threads.at(-1)!.terminate();
        const [outcome] = await Promise.allSettled([backend.run(light())]);
        if (outcome.status === 'rejected')
          expect(outcome.reason).toMatchObject({ code: 'TURNOUT_LANE_DIED' });
        await new Promise((resolve) => setTimeout(resolve, i * 5));
      }
      await vi.waitFor(async () => expect((await backend.run(light())).outputs).toHaveLength(1), 5000);
    });

    it('say what is wrong where their experts are gone, until they are back', async () => {
      await using backend = await openThreads(set.files, { lanes: 1 });
      const { path } = set.files[0]!;
      await rename(path, `${path}.away`);
      try {
        await threads[0]!.terminate();
        await expect(backend.run(light())).rejects.toMatchObject({
          code: 'TURNOUT_FILE_MISSING',
          details: { file: path },
        });
        expect(backend.lanes()).toMatchObject([{ state: 'dead' }]);
      } finally {
        await rename(`${path}.away`, path);
      }
      expect((await backend.run(light())).outputs).toHaveLength(1);
    });

    it('in the middle of a close do not keep it waiting', async () => {
      const backend = await openThreads(set.files, { lanes: 2 });
      const running = backend.run(heavy());
      const closing = backend.close();
      setTimeout(() => void threads[0]!.terminate(), 10);
      await expect(running).rejects.toMatchObject({ code: 'TURNOUT_LANE_DIED' });
      await closing;
      expect(threads.map(({ threadId }) => threadId)).toEqual(threads.map(() => -1));
    });
  });

  it('are gone after close', async () => {
    const backend = await openThreads(set.files, { lanes: 2 });
    await backend.run(heavy());
    await backend.close();
    expect(threads.map(({ threadId }) => threadId)).toEqual([-1, -1]);
  });

  describe('and their process', () => {
    /** Runs a script with `backend`, `heavy` and `light` in a Node process of its own. */
    async function inProcess(script: string): Promise<{ code: number; stdout: string; stderr: string }> {
      const threadsUrl = new URL('../../dist/src/experts/threads.js', import.meta.url).href;
      const program = `
        import { openThreads } from ${JSON.stringify(threadsUrl)};
        const backend = await openThreads(${JSON.stringify(set.files)}, { lanes: 2 });
        const x = { rows: 1, cols: ${HIDDEN}, data: new Float32Array(${HIDDEN}) };
        const [heavy, light] = [${HEAVY_ROWS}, 1].map((rows) => [{ expert: 0, x, rows: new Int32Array(rows) }]);
        ${script}`;
      const args = ['--input-type=module', '--eval', program];
      const cwd = fileURLToPath(new URL('../..', import.meta.url));
      return promisify(execFile)(process.execPath, args, { cwd, timeout: 20_000 }).then(
        (output) => ({ code: 0, ...output }),
        (error) => error,
      );
    }

    it('ends by itself after close', async () => {
      expect(
        await inProcess(`await backend.run(heavy); await backend.close(); console.log('closed');`),
      ).toMatchObject({
        code: 0,
        stdout: 'closed\n',
        stderr: '',
      });
    });

    it('ends by itself when idle', async () => {
      const ended = await inProcess(`await backend.run(heavy); console.log('done');`);
      expect(ended).toMatchObject({ code: 0, stdout: 'done\n', stderr: '' });
    });

    it('ends with its own exit code while lanes compute', async () => {
      const ended = await inProcess(`backend.run(heavy); setTimeout(() => process.exit(7), 20);`);
      expect(ended).toMatchObject({ code: 7, stderr: '' });
    });

    it('ends with it too at the moment that lanes are asked', async () => {
      for (let i = 0; i < 12; i++) {
        const ended = await inProcess(`
          await backend.run(light);
          backend.run(heavy);
          await null;
          const until = performance.now() + ${0.02 * i};
          while (performance.now() < until);
          process.exit(7);`);
        expect(ended).toMatchObject({ code: 7, stderr: '' });
      }
    });

    it('goes on, and ends by itself, where lanes are ended at the moment that they are asked', async () => {
      const ended = await inProcess(`
        let newest;
        process.on('worker', (worker) => { newest = worker; });
        const one = await openThreads(${JSON.stringify(set.files)}, { lanes: 1 });
        for (let i = 0; i < 60; i++) {
          const running = one.run(light).catch(({ code }) => code);
          await null;
          const until = performance.now() + 0.01 * (i % 20);
          while (performance.now() < until);
          void newest.terminate();
          const outcome = await running;
          if (typeof outcome === 'string' && outcome !== 'TURNOUT_LANE_DIED') console.log(outcome);
          while ((await one.run(light).catch(() => {})) === undefined);
        }
        console.log('done');`);
      expect(ended).toMatchObject({ code: 0, stdout: 'done\n', stderr: '' });
    });

    it('waits for a lane that is being replaced', async () => {
      const ended = await inProcess(`
        const workers = [];
        process.on('worker', (worker) => workers.push(worker));
        const second = await openThreads(${JSON.stringify(set.files)}, { lanes: 1 });
        await workers[0].terminate();
        console.log((await second.run(heavy)).outputs.length);`);
      expect(ended).toMatchObject({ code: 0, stdout: '1\n', stderr: '' });
    });
  });
});
