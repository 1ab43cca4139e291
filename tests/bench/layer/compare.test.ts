import { describe, expect, it } from 'vitest';
import { compareReports, drawComparison } from '../../../dist/bench/layer/compare.js';
import { noiseNotes } from '../../../dist/bench/layer/noise.js';
import { type CaseFigures, checkReport, type Report } from '../../../dist/bench/layer/report-schema.js';

interface Told {
  /** Median in ms; the spread is 5 % to either side. */
  readonly threads: number;
  readonly limit: number;
  /** p90 of the limit divided by its p10. */
  readonly wavering?: number;
  readonly ofFloor?: number;
  readonly name?: string;
  readonly cores?: number;
}

function reportOf({
  threads,
  limit,
  wavering = 1.1,
  ofFloor = 0.5,
  name = 'threads',
  cores = 2,
}: Told): Report {
  const spread = (medianMs: number) => ({ medianMs, p10Ms: 0.95 * medianMs, p90Ms: 1.05 * medianMs });
  const times = { ...spread(limit), p10Ms: limit, p90Ms: limit * wavering, ofFloor };
  const figures: CaseFigures = {
    load: 'even',
    tokens: 4,
    rows: [4, 4],
    flops: 1e6,
    bytes: 1e6,
    floor: { ms: limit / 2, bound: 'memory' },
    floorOneLane: { ms: limit / 2, bound: 'memory' },
    limit: { ...times, order: 'plan' },
    limitOneLane: times,
    contenders: [
      {
        name,
        ...spread(threads),
        ofLimit: limit / threads,
        ofOneLane: limit / threads,
        ofFloor: limit / threads / 2,
        toFused: null,
        difference: 0,
      },
    ],
    notes: [],
  };
  const shape = { experts: 8, k: 2, hidden: 64, inner: 64, dtype: 'float32', activation: 'relu' };
  const both = { one: 10, all: 20 };
  const machine = { cacheBytes: 2 ** 25, bandwidthGBs: both, peakGflops: both };
  return {
    format: 'turnout-bench-layer',
    version: 1,
    notes: [],
    settings: {},
    date: '2026-01-01',
    seconds: 1,
    hardware: { cores },
    versions: {},
    loadAverage: [0, 0, 0],
    loadAverageAfter: [0, 0, 0],
    noise: { clockStepMs: 0.001, idle: 1.05 },
    shapes: [{ shape, weightBytes: 1, needBytes: 1, machine, versions: {}, notes: [], cases: [figures] }],
  };
}

const before = reportOf({ threads: 10, limit: 8 });

describe('two reports of bench layer', () => {
  it('tells times that changed beyond the noise, with their share of the limit', () => {
    const comparison = compareReports(before, reportOf({ threads: 8.5, limit: 8 }));
    expect(comparison).toMatchObject({ compared: 1, added: 0, gone: 0, sameHardware: true });
    expect(drawComparison(comparison)).toBe(
      [
        'Compared 1 times: 1 changed beyond the noise.',
        '  8 experts, k 2, 64 x 64, float32 relu, even, T = 4, threads: 10.00 -> 8.50 ms (0.80 -> 0.94 of the limit)',
      ].join('\n'),
    );
  });

  it.each([
    ['spreads touch', { threads: 9.2, limit: 8 }],
    ['the limit wavered by more', { threads: 8.5, limit: 8, wavering: 1.3 }],
    ['the whole machine is slower', { threads: 20, limit: 16 }],
  ])('tells none where %s', (_, told) => {
    expect(compareReports(before, reportOf(told)).changed).toEqual([]);
  });

  it('tells what only one of them has, and other hardware', () => {
    const comparison = compareReports(before, reportOf({ threads: 10, limit: 8, name: 'inline', cores: 64 }));
    expect(comparison).toMatchObject({ compared: 0, added: 1, gone: 1, sameHardware: false });
    const text = drawComparison(comparison);
    expect(text).toContain('none changed');
    expect(text).toContain('The hardware differs');
    expect(text).toContain('New: 1 times.\nGone: 1 times.');
  });
});

describe('a report from a file', () => {
  it('is refused where it is none', () => {
    const refused = expect.objectContaining({ code: 'TURNOUT_INPUT_INVALID' });
    expect(() => checkReport({ format: 'turnout-bench-routing' })).toThrowError(refused);
    expect(checkReport(before)).toBe(before);
  });
});

describe('notes on noise', () => {
  const quiet = { ...before, lanes: 2 };

  it('are none on a quiet machine', () => {
    expect(noiseNotes(quiet)).toEqual([]);
  });

  it.each([
    [/clock is coarse/, { noise: { clockStepMs: 1, idle: 1 } }],
    [/noisy before the run.* 1\.8 times/, { noise: { clockStepMs: 0.001, idle: 1.8 } }],
    [/load average was 3\.5 for 2 threads/, { loadAverageAfter: [3.5, 1, 1] }],
    [/faster than the floor in 1 of 1 cases/, reportOf({ threads: 1, limit: 1, ofFloor: 1.2 })],
    [/wavered in 1 of 1 cases, by up to 2\.0 times/, reportOf({ threads: 1, limit: 1, wavering: 2 })],
  ])('say %s', (expected, loud) => {
    const notes = noiseNotes({ ...quiet, ...loud });
    expect(notes).toHaveLength(1);
    expect(notes[0]).toMatch(expected);
  });
});
