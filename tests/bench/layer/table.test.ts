import { expect, it } from 'vitest';
import type { CaseFigures, ShapeFigures } from '../../../dist/bench/layer/report-schema.js';
import { drawShape } from '../../../dist/bench/layer/table.js';

const spread = (medianMs: number) => ({ medianMs, p10Ms: medianMs, p90Ms: medianMs });
const floor = { ms: 4, bound: 'memory' };

const figures: CaseFigures = {
  load: 'even',
  tokens: 16,
  rows: [5, 4],
  flops: 1e9,
  bytes: 1e8,
  floor,
  floorOneLane: floor,
  limit: { ...spread(8), order: 'longest', ofFloor: 0.5 },
  limitOneLane: { ...spread(12), ofFloor: 0.25 },
  least: { ...spread(9), ofLimit: 8 / 9 },
  leastProcesses: { ...spread(9.5), ofLimit: 8 / 9.5 },
  contenders: [
    {
      name: 'threads',
      ...spread(10),
      ofLimit: 0.8,
      ofOneLane: 1.2,
      ofFloor: 0.4,
      toFused: 1.5,
      difference: 0,
      aroundExperts: 0.07,
    },
    {
      name: 'fused',
      ...spread(150),
      ofLimit: 0.05,
      ofOneLane: 0.1,
      ofFloor: 0.03,
      toFused: 1,
      difference: 0,
    },
  ],
  notes: ['dense left out: it would take 9 s and more'],
};

const { least: _, leastProcesses: __, ...withoutLeast } = figures;

const shape = {
  experts: 8,
  k: 2,
  hidden: 64,
  inner: 96,
  dtype: 'int4',
  activation: 'relu',
  name: 'some-model',
};
const layer: ShapeFigures = {
  shape,
  asked: { ...shape, experts: 32 },
  weightBytes: 3 * 2 ** 20,
  needBytes: 2 ** 24,
  machine: { cacheBytes: 1, bandwidthGBs: { one: 20, all: 30 }, peakGflops: { one: 100, all: 200 } },
  versions: {},
  notes: ['scaled down from 32 to 8 experts'],
  cases: [figures, { ...withoutLeast, load: 'skewed', contenders: figures.contenders.slice(0, 1) }],
};

it('a layer as a table: what it is, what is missing, and every time with its ratios', () => {
  const style = { bold: (text: string) => `*${text}*`, dim: (text: string) => `(${text})` };
  const lines = drawShape(layer, style).split('\n');
  expect(lines.slice(0, 4)).toEqual([
    '*some-model: 8 experts of 32, k 2, 64 x 96, int4 relu*',
    '(3 MiB of weights; memory 20 GB/s one core, 30 all; peak 100 and 200 GFLOP/s)',
    '(scaled down from 32 to 8 experts)',
    '(T = 16: dense left out: it would take 9 s and more)',
  ]);
  const cells = lines.slice(4).map((line) => line.trim().split(/ {2,}/));
  expect(cells).toEqual([
    [
      '*even',
      'T',
      'experts',
      'most rows',
      'limit L',
      'one lane',
      'least',
      'in processes',
      'threads',
      'fused*',
    ],
    [
      '16',
      '2',
      '5',
      '8.00 0.50 floor',
      '12.0 0.25 floor',
      '9.00 0.89L',
      '9.50 0.84L',
      '10.0 0.80L 1.50x 7%',
      '150 0.05L 1.00x',
    ],
    ['*skewed', 'T', 'experts', 'most rows', 'limit L', 'one lane', 'threads*'],
    ['16', '2', '5', '8.00 0.50 floor', '12.0 0.25 floor', '10.0 0.80L 1.50x 7%'],
  ]);
});
