import { getEventListeners } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type {
  ExpertBackend,
  ExpertBatch,
  ExpertFile,
  ExpertResults,
  Residency,
} from '#turnout/experts/backend.js';
import { wholeBatch } from '#turnout/experts/batches.js';
import { openInline } from '#turnout/experts/inline.js';
import { matrix, zeros } from '#turnout/tensor.js';
import { normals, referenceExpert, type TemporaryExperts, temporaryExperts } from '../support/experts.js';

export type OpenBackend = (
  files: readonly ExpertFile[],
  options: { residency: Residency },
) => Promise<ExpertBackend>;

const SMALL = { experts: 6, hidden: 32, inner: 48, activation: 'swiglu' } as const;
/** One call of its 8 experts with HEAVY_ROWS rows each takes tenths of a second. */
const HEAVY = { experts: 8, hidden: 64, inner: 256, activation: 'swiglu' } as const;
const HEAVY_ROWS = 15_000;
/** Largest difference between float32 and float64; outputs are of the order of 1. */
const TOLERANCE = 1e-5;

/** Rows of each batch [expert, rows] in a call. */
const LOADS: Record<string, [expert: number, rows: number][]> = {
  even: [0, 1, 2, 3, 4, 5].map((expert) => [expert, 8]),
  'all on one expert': [[3, 257]],
  'skewed, with idle experts': [
    [0, 1],
    [2, 700],
    [5, 3],
  ],
  'one row': [[4, 1]],
  'one row each': [0, 1, 2, 3, 4, 5].map((expert) => [expert, 1]),
  'an expert twice, out of order': [
    [5, 2],
    [1, 7],
    [5, 40],
  ],
  none: [],
};

/** What every backend does. A new one calls this with how it is opened; see tests/experts/inline.test.ts. */
export function backendContract(kind: ExpertBackend['kind'], open: OpenBackend, name: string = kind): void {
  describe(`backend contract: ${name}`, () => {
    let small: TemporaryExperts;
    let heavy: TemporaryExperts;
    let backend: ExpertBackend;

    beforeAll(async () => {
      small = await temporaryExperts(SMALL);
      heavy = await temporaryExperts(HEAVY);
      backend = await open(small.files, { residency: 'packed' });
    });
    afterAll(async () => {
      await backend.close();
      await small.remove();
      await heavy.remove();
    });

    /** A call of the heavy experts, on a backend of its own. */
    async function withHeavy<T>(
      use: (backend: ExpertBackend, batches: readonly ExpertBatch[]) => Promise<T>,
    ): Promise<T> {
      await using opened = await open(heavy.files, { residency: 'packed' });
      const rows = new Float32Array(HEAVY_ROWS * HEAVY.hidden).fill(0.1);
      return await use(
        opened,
        heavy.files.map((_, expert) => wholeBatch(expert, rows, HEAVY.hidden)),
      );
    }

    it('says what it holds', () => {
      expect(backend).toMatchObject({ kind, experts: 6, hidden: 32, residency: 'packed' });
      for (const lane of backend.lanes())
        expect(lane).toMatchObject({ device: 'cpu', state: 'ready', restarts: 0 });
    });

    describe('numbers', () => {
      for (const [name, load] of Object.entries(LOADS)) {
        it(`agrees with the float64 loop: ${name}`, async () => {
          const { inputs, batches } = callOf(load);
          const { outputs, timing } = await backend.run(batches);
          expect(outputs.length).toBe(load.length);
          for (const [i, [expert, rows]] of load.entries()) {
            expect(outputs[i]!.length).toBe(rows * SMALL.hidden);
            expect(worstError(outputs[i]!, referenceExpert(small, expert, inputs[i]!))).toBeLessThan(
              TOLERANCE,
            );
          }
          for (const ms of Object.values(timing)) expect(ms).toBeGreaterThanOrEqual(0);
        });
      }

      for (const residency of ['packed', 'mapped'] as const) {
        it(`gives the bits of inline: ${residency}`, async () => {
          await using inline = await openInline(small.files, { residency });
          await using other = await open(small.files, { residency });
          expect(other.residency).toBe(residency);
          for (const load of Object.values(LOADS)) {
            const { batches } = callOf(load);
            const expected = await inline.run(batches);
            const got = await other.run(batches);
            expect(got.outputs.map(bytesOf)).toEqual(expected.outputs.map(bytesOf));
          }
        });
      }

      it('keeps the bits of a packed row whatever other rows come with it', async () => {
        const { inputs, batches } = callOf([[2, 700]]);
        const together = (await backend.run(batches)).outputs[0]!;
        for (const r of [0, 1, 350, 699]) {
          const row = inputs[0]!.subarray(r * SMALL.hidden, (r + 1) * SMALL.hidden);
          const alone = (await backend.run([wholeBatch(2, row, SMALL.hidden)])).outputs[0]!;
          expect(bytesOf(alone)).toEqual(
            bytesOf(together.subarray(r * SMALL.hidden, (r + 1) * SMALL.hidden)),
          );
        }
      });

      it('keeps NaN to its row', async () => {
        const { inputs, batches } = callOf([[1, 100]]);
        const clean = (await backend.run(batches)).outputs[0]!;
        inputs[0]![5 * SMALL.hidden + 3] = Number.NaN;
        const dirty = (await backend.run([wholeBatch(1, inputs[0]!, SMALL.hidden)])).outputs[0]!;
        const badRow = [5 * SMALL.hidden, 6 * SMALL.hidden] as const;
        expect(dirty.subarray(...badRow).every(Number.isNaN)).toBe(true);
        expect(bytesOf(dirty.subarray(0, badRow[0]))).toEqual(bytesOf(clean.subarray(0, badRow[0])));
        expect(bytesOf(dirty.subarray(badRow[1]))).toEqual(bytesOf(clean.subarray(badRow[1])));
      });

      it('keeps concurrent calls apart', async () => {
        const calls = Array.from({ length: 24 }, (_, i) =>
          callOf(
            [
              [i % 6, 1 + i * 3],
              [(i + 1) % 6, 2],
            ],
            i,
          ),
        );
        const results = await Promise.all(calls.map(({ batches }) => backend.run(batches)));
        for (const [i, { outputs }] of results.entries()) {
          expect(worstError(outputs[0]!, referenceExpert(small, i % 6, calls[i]!.inputs[0]!))).toBeLessThan(
            TOLERANCE,
          );
          expect(
            worstError(outputs[1]!, referenceExpert(small, (i + 1) % 6, calls[i]!.inputs[1]!)),
          ).toBeLessThan(TOLERANCE);
        }
      });
    });

    it('uses memory that was given back again, and no other', async () => {
      const calls = [1, 2, 3, 4].map((seed) => callOf([[2, 700 + seed]], seed));
      const expected = calls.map(({ inputs }) => referenceExpert(small, 2, inputs[0]!));
      const run = async (i: number) => backend.run(calls[i]!.batches, { lend: true });
      const right = (i: number, { outputs }: ExpertResults) =>
        expect(worstError(outputs[0]!, expected[i]!)).toBeLessThan(TOLERANCE);
      const kept = await run(0);
      const given = await run(1);
      right(1, given);
      given.recycle?.();
      given.recycle?.();
      const both = await Promise.all([run(2), run(3)]);
      right(2, both[0]);
      right(3, both[1]);
      right(0, kept);
    });

    describe('rows', () => {
      it('are read before run returns', async () => {
        const { inputs, batches } = callOf([
          [0, 5],
          [1, 300],
        ]);
        const expected = inputs.map((x, expert) => referenceExpert(small, expert, x));
        const running = backend.run(batches);
        for (const { x, rows } of batches) {
          x.data.fill(Number.NaN);
          rows.fill(0);
        }
        const { outputs } = await running;
        for (const [i, y] of outputs.entries()) expect(worstError(y, expected[i]!)).toBeLessThan(TOLERANCE);
      });

      it('are those of x that are named, times their scales', async () => {
        const { inputs } = callOf([[0, 9]]);
        const x = matrix(inputs[0]!, 9, SMALL.hidden);
        const [first, second] = [Int32Array.of(8, 0, 8), Int32Array.of(3)];
        const scales = Float32Array.of(1, 0.5, -2);
        const { outputs } = await backend.run([
          { expert: 2, x, rows: first, scales },
          { expert: 4, x, rows: second },
        ]);
        const named = (rows: Int32Array, factors?: Float32Array) =>
          Float32Array.from({ length: rows.length * SMALL.hidden }, (_, i) => {
            const [r, h] = [Math.floor(i / SMALL.hidden), i % SMALL.hidden];
            return x.data[rows[r]! * SMALL.hidden + h]! * (factors?.[r] ?? 1);
          });
        expect(worstError(outputs[0]!, referenceExpert(small, 2, named(first, scales)))).toBeLessThan(
          TOLERANCE,
        );
        expect(worstError(outputs[1]!, referenceExpert(small, 4, named(second)))).toBeLessThan(TOLERANCE);
      });
    });

    describe('bad calls', () => {
      const x = zeros(4, SMALL.hidden);
      const bad: Record<string, [Partial<ExpertBatch>, string]> = {
        'no x': [{ x: undefined as never }, 'x to be a matrix {rows, cols, data}, got undefined'],
        'a number of rows': [{ rows: 3 as never }, 'rows to be an Int32Array, got 3'],
        'no row': [{ rows: new Int32Array(0) }, 'at least one row, got 0'],
        'a row before the first': [{ rows: Int32Array.of(0, -1) }, 'rows from 0 to 3, got -1'],
        'a row past the last': [{ rows: Int32Array.of(4) }, 'rows from 0 to 3, got 4'],
        'another H': [{ x: zeros(4, 7) }, `x [*, ${SMALL.hidden}], got [4, 7]`],
        'too few scales': [{ scales: Float32Array.of(1, 2) }, '1 scales, one for each row, got 2'],
        ...Object.fromEntries(
          [-1, 6, 1.5, Number.NaN].map((expert) => [
            `expert ${expert}`,
            [{ expert }, `0 to 5, got ${expert}`],
          ]),
        ),
      };
      for (const [name, [part, message]] of Object.entries(bad)) {
        it(`refuses ${name}`, async () => {
          const batch = { expert: 0, x, rows: Int32Array.of(0), ...part };
          await expect(backend.run([batch])).rejects.toMatchObject({
            code: 'TURNOUT_INPUT_INVALID',
            message: expect.stringContaining(message),
            details: { batch: 0 },
          });
        });
      }

      it('refuses more values than one call may have', async () => {
        const rows = new Int32Array(2 ** 30 / SMALL.hidden + 1);
        await expect(backend.run([{ expert: 0, x, rows }])).rejects.toMatchObject({
          code: 'TURNOUT_INPUT_INVALID',
        });
      });
    });

    describe('abort and deadline', () => {
      it('does nothing for a signal that is aborted already', async () => {
        const reason = new Error('changed my mind');
        const before = total(backend, 'rows');
        const refused = backend.run(callOf([[0, 1]]).batches, { signal: AbortSignal.abort(reason) });
        await expect(refused).rejects.toMatchObject({ code: 'TURNOUT_ABORTED', cause: reason });
        expect(total(backend, 'rows')).toBe(before);
      });

      it('settles at once when aborted in mid-call, computes no further experts, and goes on working', () =>
        withHeavy(async (heavyBackend, batches) => {
          const abortOnce = async () => {
            const before = total(heavyBackend, 'rows');
            const controller = new AbortController();
            let abortedAt = 0;
            setTimeout(() => {
              abortedAt = performance.now();
              controller.abort();
            }, 10);
            const running = heavyBackend.run(batches, { signal: controller.signal });
            await expect(running).rejects.toMatchObject({ code: 'TURNOUT_ABORTED' });
            expect(performance.now() - abortedAt).toBeLessThan(50);
            await vi.waitFor(
              () => expect(heavyBackend.lanes().every(({ state }) => state === 'ready')).toBe(true),
              5000,
            );
            return total(heavyBackend, 'rows') - before;
          };
          const all = HEAVY.experts * HEAVY_ROWS;
          // On a busy machine all may have begun before the abort.
          let computed = all;
          for (let i = 0; i < 5 && computed === all; i++) computed = await abortOnce();
          expect(computed).toBeLessThan(all);
          const rows = wholeBatch(0, new Float32Array(HEAVY.hidden), HEAVY.hidden);
          expect((await heavyBackend.run([rows])).outputs[0]).toEqual(new Float32Array(HEAVY.hidden));
        }));

      it('ends a call at its deadline', () =>
        withHeavy(async (heavyBackend, batches) => {
          const late = heavyBackend.run(batches, { timeoutMs: 10 });
          await expect(late).rejects.toMatchObject({
            code: 'TURNOUT_DEADLINE_EXCEEDED',
            details: { timeoutMs: 10 },
          });
          const blocked = heavyBackend.run(batches.slice(0, 1), { timeoutMs: 1 });
          await expect(blocked).rejects.toMatchObject({ code: 'TURNOUT_DEADLINE_EXCEEDED' });
        }));

      it('takes a deadline that has passed, and long ones', async () => {
        const { batches } = callOf([[0, 1]]);
        for (const timeoutMs of [0, -5]) {
          await expect(backend.run(batches, { timeoutMs })).rejects.toMatchObject({
            code: 'TURNOUT_DEADLINE_EXCEEDED',
          });
        }
        for (const timeoutMs of [60_000, 2 ** 40, Infinity]) {
          expect((await backend.run(batches, { timeoutMs })).outputs.length).toBe(1);
        }
        const refused = backend.run(batches, { timeoutMs: Number.NaN });
        await expect(refused).rejects.toMatchObject({ code: 'TURNOUT_OPTIONS_INVALID' });
      });

      it('leaves no listeners and no timers behind', async () => {
        const { signal } = new AbortController();
        const { batches } = callOf([[0, 1]]);
        const timers = () => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
        const before = timers();
        for (let i = 0; i < 1000; i++) await backend.run(batches, { signal, timeoutMs: 60_000 });
        expect(getEventListeners(signal, 'abort')).toHaveLength(0);
        expect(timers()).toBeLessThanOrEqual(before);
      });
    });

    describe('close', () => {
      it('lets calls under way end, then refuses everything but close', () =>
        withHeavy(async (heavyBackend, batches) => {
          const running = heavyBackend.run(batches);
          let ended = false;
          void running.then(() => {
            ended = true;
          });
          const closing = heavyBackend.close();
          expect(heavyBackend.lanes().every(({ state }) => state === 'draining')).toBe(true);
          await expect(heavyBackend.run(batches)).rejects.toMatchObject({ code: 'TURNOUT_CLOSED' });
          await closing;
          expect(ended).toBe(true);
          expect((await running).outputs).toHaveLength(HEAVY.experts);
          await heavyBackend.close();
          await expect(heavyBackend.run([])).rejects.toMatchObject({ code: 'TURNOUT_CLOSED' });
          expect(() => heavyBackend.lanes()).toThrowError(
            expect.objectContaining({ code: 'TURNOUT_CLOSED' }),
          );
        }));

      it('waits for the work of an aborted call', () =>
        withHeavy(async (heavyBackend, batches) => {
          const controller = new AbortController();
          const running = heavyBackend.run(batches, { signal: controller.signal });
          controller.abort();
          await expect(running).rejects.toMatchObject({ code: 'TURNOUT_ABORTED' });
          await heavyBackend.close();
        }));
    });

    it('counts what its lanes compute', async () => {
      await using counted = await open(small.files, { residency: 'packed' });
      await counted.run(
        callOf([
          [0, 5],
          [1, 1],
        ]).batches,
      );
      await counted.run(callOf([[2, 3]]).batches);
      expect(total(counted, 'rows')).toBe(9);
      expect(total(counted, 'batches')).toBe(3);
      expect(total(counted, 'calls')).toBeGreaterThanOrEqual(2);
    });

    describe('bad experts', () => {
      it('refuses an empty list', async () => {
        await expect(open([], { residency: 'packed' })).rejects.toMatchObject({
          code: 'TURNOUT_EXPERTS_INVALID',
        });
      });

      it('names the file that is missing, broken, of another shape or of another width', async () => {
        const wide = await temporaryExperts({ ...SMALL, experts: 1, hidden: 16 });
        const broken = join(wide.folder, 'broken.onnx');
        await writeFile(broken, 'not a graph');
        const cases = [
          [join(wide.folder, 'absent.onnx'), 'TURNOUT_FILE_MISSING'],
          [broken, 'TURNOUT_SESSION_FAILED'],
          [small.gateFile, 'TURNOUT_EXPERT_INVALID'],
          [wide.files[0]!.path, 'TURNOUT_EXPERT_INVALID'],
        ] as const;
        for (const [path, code] of cases) {
          const opening = open([small.files[0]!, { path }], { residency: 'packed' });
          await expect(opening).rejects.toMatchObject({
            name: 'TurnoutError',
            code,
            details: { file: path },
            message: expect.stringContaining(path),
          });
        }
        await wide.remove();
      });
    });
  });
}

/** Batches with random rows x [n, H] for SMALL; the same numbers for the same seed. */
function callOf(load: readonly (readonly [expert: number, rows: number])[], seed = 7) {
  const random = normals(seed);
  const inputs = load.map(([, rows]) => Float32Array.from({ length: rows * SMALL.hidden }, random));
  return { inputs, batches: load.map(([expert], i) => wholeBatch(expert, inputs[i]!, SMALL.hidden)) };
}

function total(backend: ExpertBackend, count: 'calls' | 'batches' | 'rows'): number {
  return backend.lanes().reduce((sum, lane) => sum + lane[count], 0);
}

function worstError(got: Float32Array, expected: Float64Array): number {
  return got.reduce((worst, value, i) => Math.max(worst, Math.abs(value - expected[i]!)), 0);
}

export function bytesOf(data: Float32Array): Buffer {
  return Buffer.from(data.buffer, data.byteOffset, data.byteLength);
}
