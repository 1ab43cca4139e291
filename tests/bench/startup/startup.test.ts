import { statSync } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { contendersOf, FUSED, mostCopies, SESSIONS } from '../../../dist/bench/startup/contenders.js';
import { openTask } from '../../../dist/bench/startup/opened.js';
import { FIGURE } from '../../../dist/bench/startup/report.js';
import { checkEqual } from '../../../dist/bench/startup/run.js';
import { type StartupFlags, settingsOf } from '../../../dist/bench/startup/settings.js';
import { openSource } from '../../../dist/bench/startup/source.js';
import { writeSparseExperts, writeSparseFused } from '../../../dist/bench/startup/sparse.js';
import { startup } from '../../../dist/bench/startup.bench.js';

const DEFAULTS = { backend: 'inline,threads,processes', residency: 'packed,mapped', rounds: 1 };
const SMALL = { experts: 4, hidden: 32, inner: 16 };
const settings = (flags: Partial<StartupFlags> = {}) =>
  settingsOf({ ...DEFAULTS, ...flags }, 'experts/babel', 2);

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'turnout-test-'));
});
afterAll(() => rm(folder, { recursive: true }));

describe('settings of bench startup', () => {
  it('mean the bundled package, or experts of a size or of a model', () => {
    expect(settings()).toMatchObject({ package: 'experts/babel', lanes: 2, rounds: 1 });
    expect(settings(SMALL).shape).toMatchObject({ ...SMALL, activation: 'swiglu', dtype: 'float32' });
    expect(settings({ model: 'mixtral-8x7b', dtype: 'int4' }).shape).toMatchObject({
      experts: 8,
      dtype: 'int4',
    });
  });

  it.each<[Partial<StartupFlags>, RegExp]>([
    [{ ...SMALL, package: 'x' }, /^--package and --experts, --hidden, --inner/],
    [{ model: 'mixtral-8x7b', experts: 2 }, /the model has its sizes$/],
    [{ dtype: 'int4' }, /^--dtype: needs/],
    [{ experts: 0 }, /^--experts: .*got 0$/],
    [{ rounds: 0 }, /^--rounds: .*got 0$/],
    [{ lanes: 1.5 }, /^--lanes: .*got 1.5$/],
    [{ lanes: 2, replicas: 3 }, /^--replicas: .* from 1 to 2, got 3$/],
    [{ backend: 'inline,magic' }, /^--backend: expected some of .*, got magic$/],
    [{ residency: 'paged' }, /^--residency: expected some of .*, got paged$/],
  ])('%j are refused', (flags, message) => {
    const code = 'TURNOUT_OPTIONS_INVALID';
    expect(() => settings(flags)).toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(message) }),
    );
  });
});

describe('bench startup', () => {
  it('measures every backend beside its rival and its limits', { timeout: 60_000 }, async () => {
    const own = await mkdtemp(join(folder, 'own-'));
    vi.stubEnv('TMPDIR', own);
    const report = await startup(settings({ ...SMALL, oneProcessPer: 'device' }));
    vi.unstubAllEnvs();
    const each = ['inline', 'threads', 'processes', SESSIONS, FUSED];
    const ids = ['packed', 'mapped'].flatMap((residency) => each.map((name) => `${name}, ${residency}`));
    expect(report.rows.map(({ id }) => id)).toEqual([...ids, 'read the bytes']);
    const row = (id: string) => report.rows.find((found) => found.id === id)!;
    for (const id of ids) {
      const { figures, role } = row(id);
      expect(figures[FIGURE.open]!.median).toBeGreaterThan(0);
      expect(figures[FIGURE.first]!.median).toBeGreaterThan(0);
      // No time without its ratio.
      if (role !== 'limit') expect(figures[FIGURE.ofLimit]!.median).toBeGreaterThan(0);
      if (role === 'runtime') expect(figures[FIGURE.ofFused]!.median).toBeGreaterThan(0);
      if (process.platform === 'linux') expect(figures[FIGURE.memory]!.median).toBeGreaterThan(0);
    }
    const limit = row(`${SESSIONS}, mapped`).figures[FIGURE.open]!.median;
    const { figures } = row('inline, mapped');
    expect(figures[FIGURE.ofLimit]!.median).toBeCloseTo(figures[FIGURE.open]!.median / limit, 9);
    expect(await readdir(own)).toEqual([]);
  });

  it('leaves out what does not fit into memory, and says so', async () => {
    const home = await mkdtemp(join(folder, 'memory-'));
    const chosen = settings(SMALL);
    const source = await openSource(chosen, home, Number.POSITIVE_INFINITY);
    const { contenders, notes } = await contendersOf(source, chosen, source.bytes);
    const packed = contenders.filter(({ residency }) => residency === 'packed').map(({ name }) => name);
    // Threads would pack all experts once a lane.
    expect(packed).toEqual(['inline', 'processes', SESSIONS]);
    expect(notes).toEqual([expect.stringMatching(/^packed: threads, fused, one session left out/)]);
    expect(mostCopies(chosen)).toBe(2);
    expect(mostCopies(settings({ ...SMALL, residency: 'mapped' }))).toBe(0);
  });

  it('makes fewer experts where all do not fit', async () => {
    const home = await mkdtemp(join(folder, 'scaled-'));
    const one = 3 * 32 * 16 * 4;
    const { made, files } = await openSource(settings(SMALL), home, 2 * one);
    expect(files).toHaveLength(2);
    expect(made).toMatchObject({ shape: { experts: 2 }, asked: { experts: 4 } });
  });

  it('does not time what computes something else', () => {
    const inline = {
      name: 'inline',
      residency: 'packed',
      role: 'runtime',
      experts: 1,
      beside: null,
    } as const;
    const task = { kind: 'backend', files: [], options: {} } as const;
    const other = { ...inline, name: 'threads', task };
    const sample = (y: number[]) => ({ bootMs: 1, openMs: 1, firstMs: 1, outputs: [Float32Array.from(y)] });
    const check = (...ys: number[][]) => checkEqual([{ ...inline, task }, other], ys.map(sample));
    expect(() => check([1, 2], [1, 2])).not.toThrow();
    expect(() => check([1, 2], [1, 2.00001])).toThrow(/^threads, packed differ: .* at 1$/);
    expect(() => check([0, 0], [0, 0])).toThrow(/not all zero/);
  });
});

describe('sparse experts', () => {
  for (const activation of ['relu', 'swiglu'] as const) {
    it(`are long, small on disk, and the same fused: ${activation}`, async () => {
      const home = await mkdtemp(join(folder, 'sparse-'));
      const spec = { experts: 3, hidden: 256, inner: 512, activation } as const;
      const files = await writeSparseExperts(home, spec);
      const matrices = activation === 'relu' ? 2 : 3;
      const data = statSync(files[0]!.replace(/onnx$/, 'bin'));
      expect(data.size).toBe(matrices * 4 * 256 * 512);
      if (process.platform === 'linux') expect(data.blocks * 512).toBeLessThan(data.size / 4);
      const fused = await writeSparseFused(home, spec);
      const residency = 'mapped' as const;
      const sessions = await openTask({ kind: 'sessions', files, residency, experts: true });
      const rival = await openTask({ kind: 'fused', files: fused.files, residency, threads: 1, experts: 3 });
      const x = Float32Array.from({ length: 256 }, (_, i) => Math.sin(i + 1));
      const outputs: Float32Array[] = [];
      for (const expert of [0, 1, 2]) {
        const y = await sessions.call!(expert, x);
        expect(y.some((value) => value !== 0)).toBe(true);
        for (const [i, value] of (await rival.call!(expert, x)).entries())
          expect(value).toBeCloseTo(y[i]!, 5);
        outputs.push(y);
      }
      expect(outputs[0]).not.toEqual(outputs[1]);
    });
  }
});
