import { beforeAll, describe, expect, it } from 'vitest';
import { compareReports, drawComparison } from '../../../dist/bench/routing/compare.js';
import { reportText } from '../../../dist/bench/routing/report.js';
import { checkReport, type Report } from '../../../dist/bench/routing/report-schema.js';
import { openSynthetic } from '../../../dist/bench/routing/synthetic.js';
import { benchRouting } from '../../support/bench.js';

let report: Report;
beforeAll(async () => {
  const source = openSynthetic({ shape: 'zipf', experts: 8, tokens: 64, window: 32, perCall: 2, seed: 0 });
  report = await benchRouting(source, { presets: 'mixtral,switch', factors: '1,none', scopes: 'request' });
});

/** A copy with the reference between 10 and 12 ms, calls of 10 to 11 ms, and a change. */
function changed(change: (copy: Report) => void): Report {
  const copy = structuredClone(report);
  copy.reference = { p10: 10, p50: 11, p90: 12, p99: 12, samples: 9 };
  for (const { times } of copy.rows) times.call = { p10: 10, p50: 10.5, p90: 11, p99: 11, samples: 9 };
  change(copy);
  return copy;
}
const same = () => changed(() => {});

describe('a comparison of two reports', () => {
  it('finds nothing where nothing but times within the spread changed', () => {
    const wavering = changed(({ rows }) => {
      for (const { times } of rows) times.call = { p10: 10.9, p50: 11.5, p90: 13, p99: 20, samples: 9 };
    });
    const comparison = compareReports(same(), wavering);
    expect(comparison).toMatchObject({
      sameInputs: true,
      sameHardware: true,
      changed: [],
      added: [],
      gone: [],
    });
    expect(drawComparison(comparison)).toBe(`Compared ${report.rows.length} rows: none changed.`);
  });

  it('tells any change of a routing figure, down to the last digit', () => {
    const other = changed(({ rows }) => {
      rows[0]!.load.cv = rows[0]!.load.cv! * (1 + Number.EPSILON);
      rows[1]!.layers[0]!.kept[3]!++;
      rows[2]!.losses.smoothLoad = 1;
    });
    const { changed: rows } = compareReports(same(), other);
    expect(rows.map(({ routing, times }) => [routing.map(({ figure }) => figure), times])).toEqual([
      [['load.cv'], []],
      [['layers.0.kept.3'], []],
      [['losses.smoothLoad'], []],
    ]);
    expect(rows[2]!.routing[0]).toEqual({ figure: 'losses.smoothLoad', before: null, after: 1 });
  });

  it('tells times that are beyond the spread of the calls and the noise of the machine, and no others', () => {
    const times = (factor: number) =>
      changed(({ rows }) => {
        const { call } = rows[0]!.times;
        for (const key of ['p10', 'p50', 'p90', 'p99'] as const) call[key] *= factor;
      });
    // The same call took from 10 to 12 ms: a factor of 1.2 is noise, though the calls themselves lie apart.
    expect(compareReports(same(), times(1.15)).changed).toEqual([]);
    const slower = compareReports(same(), times(1.5)).changed;
    expect(slower.map((own) => own.times)).toEqual([
      [{ figure: 'times.call.p50', before: 10.5, after: 15.75 }],
    ]);
    expect(compareReports(times(1.5), same()).changed).toHaveLength(1);
  });

  it('names rows that are new or gone, other inputs and other hardware', () => {
    const other = changed((copy) => {
      copy.rows.shift();
      copy.inputs = 'others';
      copy.hardware.cpu = 'another';
    });
    const comparison = compareReports(same(), other);
    expect(comparison).toMatchObject({ sameInputs: false, sameHardware: false });
    expect(comparison.gone.map(({ id }) => id)).toEqual([report.rows[0]!.id]);
    const text = drawComparison(comparison);
    expect(text).toContain('Gone: mixtral dropless');
    expect(text).toContain('The inputs differ');
    expect(compareReports(other, same()).added).toHaveLength(1);
  });
});

describe('the JSON of a report', () => {
  it('is what its schema says, and has one line for each row', () => {
    const text = reportText(report);
    expect(checkReport(JSON.parse(text))).toEqual(report);
    expect(text.split('\n').filter((line) => line.startsWith('  {"id":'))).toHaveLength(report.rows.length);
    expect(report).toMatchObject({
      hardware: { cpu: expect.any(String), cores: expect.any(Number) },
      versions: { turnout: expect.any(String), node: process.version, onnxruntime: expect.any(String) },
      settings: { seed: 0 },
    });
  });

  it.each([
    [{ format: 'turnout-recording' }, '/format'],
    [{ version: 2 }, '/version'],
    [{ rows: [{}] }, '/rows/0'],
  ])('is refused with %j', (change, place) => {
    expect(() => checkReport({ ...report, ...change })).toThrow(
      expect.objectContaining({
        code: 'TURNOUT_INPUT_INVALID',
        message: expect.stringContaining(place),
      }),
    );
  });
});
