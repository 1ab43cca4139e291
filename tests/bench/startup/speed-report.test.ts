import { describe, expect, it } from 'vitest';
import {
  checkSpeedReport,
  compareSpeed,
  type SpeedReport,
} from '../../../dist/bench/support/speed-report.js';

const spread = (median: number, least = median, most = median) => ({ median, least, most });

function reportOf(figures: Record<string, ReturnType<typeof spread>>, id = 'inline, packed'): SpeedReport {
  return {
    format: 'turnout-bench-startup',
    version: 1,
    source: { name: 'made' },
    settings: {},
    notes: [],
    date: '2026-01-01T00:00:00.000Z',
    seconds: 1,
    hardware: { cores: 2 },
    versions: { turnout: '0.1.0' },
    loadAverage: [0],
    loadAverageAfter: [0],
    rows: [{ id, role: 'runtime', figures }],
  };
}

describe('a report of speed', () => {
  it('tells what changed beyond the spreads of both', () => {
    const before = reportOf({ 'open ms': spread(10, 9, 11), ratio: spread(2, 1.9, 2.1) });
    const after = reportOf({ 'open ms': spread(13, 12, 14), ratio: spread(2.2, 2.05, 2.4) });
    expect(compareSpeed(before, after)).toEqual([
      expect.stringMatching(/^Compared 1 rows .*: 1 figures changed/),
      '  inline, packed: open ms 10.0 -> 13.0 (1.30x)',
    ]);
  });

  it('says where other things were measured', () => {
    const before = { ...reportOf({}), source: { name: 'other' }, hardware: { cores: 8 } };
    const lines = compareSpeed(before, reportOf({}, 'threads, packed'));
    expect(lines[0]).toMatch(/^What was measured differs/);
    expect(lines[1]).toMatch(/^The hardware differs/);
    expect(lines.at(-1)).toBe('1 rows are new, 1 gone.');
  });

  it('is refused where it is of another command, or none', () => {
    const report = reportOf({});
    expect(checkSpeedReport(report, 'turnout-bench-startup')).toBe(report);
    for (const value of [{ ...report, format: 'turnout-bench-scale' }, {}, null])
      expect(() => checkSpeedReport(value, 'turnout-bench-startup')).toThrow(
        expect.objectContaining({ code: 'TURNOUT_INPUT_INVALID' }),
      );
  });
});
