import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openInline } from '#turnout/experts/inline.js';
import { MoeLayer } from '#turnout/moe-layer.js';
import { relativeDifference } from '../../../dist/bench/layer/case.js';
import { openLimits } from '../../../dist/bench/layer/limits.js';
import { checkOracle } from '../../../dist/bench/layer/oracle.js';
import { checkReport, type Report } from '../../../dist/bench/layer/report-schema.js';
import { benchLayer, type LayerBenchOptions } from '../../../dist/bench/layer/run.js';
import { type LayerShape, rowFlops, shapeBytes } from '../../../dist/bench/layer/shapes.js';
import { makeCase, makeSource } from '../../../dist/bench/layer/source.js';
import { openBareExperts } from '../../../dist/bench/peers/bare-experts.js';
import { openBareProcesses } from '../../../dist/bench/peers/bare-processes.js';
import { openFusedMoe } from '../../../dist/bench/peers/fused-moe.js';
import { referenceExpert } from '../../support/experts.js';

const SMALL: LayerShape = { experts: 4, k: 2, hidden: 64, inner: 96, activation: 'relu', dtype: 'float32' };
const SHAPES: readonly LayerShape[] = (['float32', 'int4'] as const).flatMap((dtype) =>
  (['relu', 'swiglu'] as const).map((activation) => ({ ...SMALL, dtype, activation })),
);

/** One of each type and of each activation, and one of larger groups. */
const MEASURED: readonly LayerShape[] = [
  ...SHAPES.filter(({ dtype, activation }) => (dtype === 'int4') === (activation === 'relu')),
  { ...SMALL, hidden: 256, inner: 256, dtype: 'int4', activation: 'swiglu', group: 128 },
];

const options: LayerBenchOptions = {
  shapes: MEASURED,
  tokens: [1, 64],
  loads: ['even', 'skewed'],
  contenders: ['inline', 'threads', 'fused', 'dense'],
  lanes: 2,
  devices: ['cpu'],
  devicesAsked: false,
  residency: 'packed',
  rounds: 2,
  readingMs: 2,
  memory: 2 ** 30,
  seed: 1,
};

describe('a bench of layers', () => {
  let report: Report;
  const shown: number[] = [];
  beforeAll(async () => {
    const onShape = async ({ cases }: Report['shapes'][number]) => void shown.push(cases.length);
    report = await benchLayer({ ...options, onShape });
  }, 60_000);

  it('measures every case of every shape, and tells each shape when it is done', () => {
    expect(checkReport(JSON.parse(JSON.stringify(report)))).toEqual(report);
    expect(report.shapes.map(({ shape }) => shape)).toEqual(MEASURED);
    expect(shown).toEqual([4, 4, 4]);
    for (const { cases } of report.shapes) {
      expect(cases.map(({ load, tokens }) => [load, tokens])).toEqual([
        ['even', 1],
        ['even', 64],
        ['skewed', 1],
        ['skewed', 64],
      ]);
    }
  });

  it('has contenders that agree: turnout to the bit, rivals but for rounding', () => {
    for (const { shape, cases } of report.shapes) {
      for (const { contenders } of cases) {
        expect(contenders.map(({ name }) => name)).toEqual(options.contenders);
        const [inline, threads, fused, dense] = contenders.map(({ difference }) => difference);
        expect([inline, threads]).toEqual([0, 0]);
        expect(dense).toBeLessThan(1e-6);
        // QMoE multiplies in float32 what turnout rounds to 8 bits.
        if (shape.dtype === 'int4') expect(fused).toBeGreaterThan(1e-4);
        expect(fused).toBeLessThan(shape.dtype === 'int4' ? 0.05 : 1e-6);
      }
    }
  });

  it('tells what a case asks of the experts', () => {
    for (const { shape, cases } of report.shapes) {
      for (const { tokens, load, rows, flops, bytes } of cases) {
        const all = rows.reduce((sum, count) => sum + count, 0);
        expect(all).toBe(2 * tokens);
        expect(flops).toBe(all * rowFlops(shape as LayerShape));
        expect(bytes).toBe((shapeBytes(shape as LayerShape) / 4) * rows.length + 8 * shape.hidden * all);
        // Two of four experts for each token: half of the tokens at the first one is what even loads come to.
        if (tokens === 64 && load === 'skewed') expect(rows[0]).toBeGreaterThanOrEqual(32);
      }
    }
  });

  it('gives each time its ratios', () => {
    for (const { machine, cases } of report.shapes) {
      for (const { limit, limitOneLane, least, floor, flops, contenders } of cases) {
        expect(least!.ofLimit).toBeCloseTo(limit.medianMs / least!.medianMs, 9);
        // All weights fit into the cache: only operations bound it.
        expect(floor).toEqual({ ms: flops / machine.peakGflops.all / 1e6, bound: 'compute' });
        const fused = contenders.find(({ name }) => name === 'fused')!;
        for (const figures of contenders) {
          expect(figures.ofLimit).toBeCloseTo(limit.medianMs / figures.medianMs, 9);
          expect(figures.ofOneLane).toBeCloseTo(limitOneLane.medianMs / figures.medianMs, 9);
          expect(figures.ofFloor).toBeCloseTo(floor.ms / figures.medianMs, 9);
          expect(figures.ofLeast).toBeCloseTo(least!.medianMs / figures.medianMs, 9);
          expect(figures.toFused).toBeCloseTo(fused.medianMs / figures.medianMs, 9);
          expect(figures.p10Ms).toBeLessThanOrEqual(figures.medianMs);
          expect(figures.p90Ms).toBeGreaterThanOrEqual(figures.medianMs);
        }
      }
    }
  });

  it('tells the stages of turnout alone', () => {
    for (const { name, stages, aroundExperts } of report.shapes[0]!.cases[0]!.contenders) {
      const own = name === 'inline' || name === 'threads';
      expect(stages !== undefined && stages.gateMs! > 0).toBe(own);
      if (own) expect(aroundExperts).toBeGreaterThan(0);
    }
  });

  it('ends with the reason of the signal', async () => {
    const signal = AbortSignal.abort(new Error('enough'));
    await expect(benchLayer({ ...options, signal })).rejects.toThrow('enough');
  });
});

describe('the least layer', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'turnout-test-'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  it('is a whole layer: it gives what a backend gives, in both orders and in processes', async () => {
    const source = await makeSource(folder, SMALL, 7);
    await using bare = await openBareExperts(source.files, 2);
    await using bareProcesses = await openBareProcesses(source.files, ['cpu:0', 'cpu:0'], 'packed');
    await using inline = await openInline(source.files);
    for (const load of ['even', 'skewed'] as const) {
      const call = await makeCase(source, { load, tokens: 33, seed: 8 });
      const layer = new MoeLayer({ name: 'a', index: 0, router: source.router, backend: inline });
      const { y } = await layer.forward(call.x, { logits: call.logits });
      const limits = await openLimits(call, { source, lanes: 2, bare, bareProcesses });
      expect(limits.least.map(({ name }) => name)).toEqual([
        'least plan',
        'least longest',
        ...(bareProcesses ? ['least processes'] : []),
      ]);
      for (const { run } of limits.least) expect(await run()).toEqual(y.data);
      await limits.close();
    }
  });

  it('fails where a process ends, instead of waiting for it', async () => {
    const bareProcesses = await openBareProcesses(
      ['missing.onnx'].map((path) => ({ path })),
      ['cpu'],
      'packed',
    ).catch((error: Error) => error.message);
    expect(bareProcesses).toMatch(/^bare process: ended with/);
  });

  it('is left out where the rule may be another', async () => {
    const { set, ...source } = await makeSource(join(folder, 'of-a-package'), SMALL, 7);
    await using bare = await openBareExperts(source.files, 2);
    const call = await makeCase(source, { load: 'even', tokens: 3, seed: 8 });
    const limits = await openLimits(call, { source, lanes: 2, bare, bareProcesses: undefined });
    expect(limits.least).toEqual([]);
    await limits.runs[0]!.run();
    await limits.close();
  });
});

describe('what the fused operators are given', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'turnout-test-'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  it.each(SHAPES)('is what plain loops compute: $dtype $activation', async (shape) => {
    const source = await makeSource(join(folder, `${shape.dtype}-${shape.activation}`), shape, 3);
    const set = source.set!;
    const fused = await openFusedMoe(set, { folder, k: 1, threads: 1 });
    // The bias sends all rows to one expert, with weight 1.
    const bias = Float32Array.of(0, 0, 1000, 0);
    const { x } = await makeCase(source, { load: 'even', tokens: 3, seed: 4 });
    const y = await fused.run(x, bias);
    // int4: QMoE finds the very codes and scales again when it packs them.
    expect(relativeDifference(y, referenceExpert(set, 2, x.data))).toBeLessThan(1e-5);
    await fused.release();
  });

  it('is found out where it is something else', async () => {
    const source = await makeSource(join(folder, 'other'), SMALL, 5);
    const set = { ...source.set!, weightsOf: () => source.set!.weightsOf(0) };
    const fused = await openFusedMoe(set, { folder, k: 2, threads: 1 });
    const call = await makeCase(source, { load: 'even', tokens: 2, seed: 6 });
    const contender = {
      name: 'fused' as const,
      forward: () => fused.run(call.x, call.bias),
      [Symbol.asyncDispose]: () => fused.release(),
    };
    await expect(checkOracle(call, source, [contender])).rejects.toThrow('differs from plain loops');
    await fused.release();
  });
});
