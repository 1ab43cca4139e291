import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MoeModel } from '#turnout/model/moe-model.js';
import { BACKENDS } from '#turnout/model/open.js';
import { capacityOf } from '#turnout/router/capacity.js';
import type { Report } from '../../../dist/bench/routing/report-schema.js';
import type { Source } from '../../../dist/bench/routing/source.js';
import { openText } from '../../../dist/bench/routing/text-source.js';
import { referenceMoe } from '../../reference/moe.js';
import { BABEL, temporaryFolder } from '../../support/babel.js';
import { benchRouting, find, routingFigures } from '../../support/bench.js';
import { makeRecurrentPackage } from '../../support/recurrent.js';

const DOMAINS = ['c', 'english', 'french', 'german', 'japanese', 'python'];
const CUT = { folder: BABEL, tokens: 48, window: 24, perCall: 3 };
const FLAGS = {
  presets: 'trained,switch,megatron-moe,expert-choice,hash',
  factors: '1,none',
  priorities: 'token-major,random',
};

let source: Source;
let report: Report;
beforeAll(async () => {
  source = await openText({ ...CUT, model: { backend: 'inline' } });
  report = await benchRouting(source, FLAGS);
}, 60_000);
afterAll(() => source.close());

/** Bits of windows of a domain, by the model itself and a plain softmax in float64; its routing too. */
async function byModel(model: MoeModel, domain: string, router: object | undefined) {
  const text = readFileSync(join(BABEL, 'held-out', `${domain}.txt`)).subarray(0, CUT.tokens);
  const windows = [text.subarray(0, CUT.window), text.subarray(CUT.window)];
  const scored = windows.map(async (bytes) => {
    const data = BigInt64Array.from([256, ...bytes.subarray(0, -1)], BigInt);
    const feeds = { input_ids: { type: 'int64' as const, dims: [data.length], data } };
    const { outputs, routing } = await model.trace(feeds, router ? { router } : {});
    const logits = outputs.logits!.data as Float32Array;
    const bits = Array.from(bytes, (byte, i) => {
      const row = Array.from(logits.subarray(i * 257, (i + 1) * 257));
      return -Math.log2(Math.exp(row[byte]!) / row.reduce((sum, value) => sum + Math.exp(value), 0));
    });
    return { bits: bits.reduce((sum, own) => sum + own, 0), layers: routing[0]! };
  });
  return Promise.all(scored);
}

describe('turnout bench routing on a text', () => {
  it.each([
    ['the trained rule', { name: 'trained', factor: 2 }, undefined],
    ['another preset', { name: 'switch', scope: 'sequence', capacity: 'own' }, { preset: 'switch' }],
    [
      'another capacity',
      { name: 'trained', factor: 1, scope: 'request', overflow: 'next-best' },
      { options: { admit: { factor: 1, overflow: 'next-best' } } },
    ],
  ] as const)('has the bits per byte, loads and drops of the model under %s', async (_, words, router) => {
    const row = find(report.rows, words);
    const trained = find(report.rows, { name: 'trained', factor: 2 });
    await using model = await MoeModel.open(BABEL, { backend: 'inline' });
    const loads = [0, 1, 2, 3].map(() => new Array<number>(8).fill(0));
    let [dropped, all] = [0, 0];
    for (const domain of DOMAINS) {
      const windows = await byModel(model, domain, router);
      const bits = windows.reduce((sum, own) => sum + own.bits, 0);
      all += bits;
      const { bytes, bitsPerByte, change } = row.quality!.domains[domain]!;
      expect(bytes).toBe(48);
      expect(bitsPerByte).toBeCloseTo(bits / 48, 4);
      expect(change).toBeCloseTo(bitsPerByte - trained.quality!.domains[domain]!.bitsPerByte, 10);
      for (const { layers } of windows) {
        layers.forEach(({ expert, reason }, l) => {
          expert.forEach((e, a) => {
            loads[l]![e]!++;
            if (reason[a] !== 0) dropped++;
          });
        });
      }
    }
    expect(row.quality!.bitsPerByte).toBeCloseTo(all / 288, 4);
    expect(row.layers.map(({ load }) => load)).toEqual(loads);
    expect(row.drops.chosen - row.drops.kept).toBe(dropped);
    expect(row.tokens).toBe(288);
  });

  it('keeps what the oracle keeps, layer by layer, where sequences compete and where they do not', async () => {
    for (const scope of ['request', 'sequence', 'call'] as const) {
      const row = find(report.rows, {
        name: 'trained',
        factor: 1,
        scope,
        priority: 'token-major',
        overflow: 'drop',
      });
      const kept = [0, 1, 2, 3].map(() => new Array<number>(8).fill(0));
      const options = row.options[0] as Parameters<Source['routerOf']>[0];
      const routers = source.layers.map((_, layer) => source.routerOf(options, layer));
      const admit = { factor: 1, formula: 'deepspeed', minimum: 4 } as const;
      for (let call = 0; call < source.calls; call++) {
        const { layers, sequences } = await source.run(call, {
          options: routers.map(() => options),
          routers,
        });
        const lengths = sequences.map(({ tokens }) => tokens);
        layers.forEach(({ routing: { logits } }, l) => {
          const rows = Array.from({ length: logits.rows }, (_, t) => [
            ...logits.data.subarray(t * 8, (t + 1) * 8),
          ]);
          const oracle = referenceMoe(
            {
              ...{ score: 'softmax', k: 2, normalise: true },
              capacity: (n) => capacityOf(admit, n, 8, 2),
              count: scope === 'request' ? 'running' : 'whole',
              experts: new Array(8).fill((x: readonly number[]) => x),
            },
            rows.map(() => [0]),
            rows,
            scope === 'call' ? [logits.rows] : lengths,
          );
          for (const { expert } of oracle.kept.flat()) kept[l]![expert]!++;
        });
      }
      expect(row.layers.map((layer) => layer.kept)).toEqual(kept);
    }
  });

  it('tells cost from what was kept: 3 matrices of 128 x 256, and the files of the experts touched', () => {
    for (const { cost, drops, tokens } of report.rows)
      expect(cost!.flopsPerToken).toBeCloseTo((drops.kept * 6 * 128 * 256) / tokens, 6);
    // 12 sequences in 4 calls; the dropless rule touches all 8 experts of all 4 layers in each of them.
    const { cost, drops, tokens } = find(report.rows, { name: 'trained', factor: 'none' });
    const weights = 4 * 4 * 8 * 4 * 3 * 128 * 256;
    expect(cost!.bytesPerToken).toBeCloseTo((weights + drops.kept * 2 * 4 * 128) / tokens, 6);
  });

  it('changes the trained rule by nothing, and gives the error of the change over the sequences', () => {
    const trained = find(report.rows, { name: 'trained', factor: 2 });
    expect(trained).toMatchObject({ baseline: true, causal: true, quality: { change: 0, changeError: 0 } });
    const { quality } = find(report.rows, { name: 'hash', factor: 'none' });
    const changes = quality!.sequences.map((bits, s) => bits - trained.quality!.sequences[s]!);
    expect(changes).toHaveLength(12);
    const mean = changes.reduce((sum, own) => sum + own, 0) / 12;
    const deviation = Math.sqrt(changes.reduce((sum, own) => sum + (own - mean) ** 2, 0) / 11);
    expect(quality!.changeError).toBeCloseTo((deviation * Math.sqrt(12)) / 288, 10);
    expect(quality!.change).toBeCloseTo((mean * 12) / 288, 10);
  });

  it('marks rules that look ahead, and keeps them off the front of a causal model', () => {
    expect(report.causal).toBe(true);
    const acausal = report.rows.filter(({ causal }) => !causal);
    expect(acausal.length).toBeGreaterThan(5);
    for (const row of acausal) {
      expect(row.onFront).toBe(false);
      expect(row.notCausalBecause).toMatch(/sequence|call/);
    }
    const able = report.rows.filter(({ causal }) => causal);
    for (const row of able) {
      const beaten = able.some(
        ({ quality, cost }) =>
          (quality!.bitsPerByte < row.quality!.bitsPerByte &&
            cost!.flopsPerToken <= row.cost!.flopsPerToken) ||
          (quality!.bitsPerByte <= row.quality!.bitsPerByte && cost!.flopsPerToken < row.cost!.flopsPerToken),
      );
      expect(row.onFront).toBe(!beaten);
    }
    expect(report.notes.join(' ')).toMatch(/not the merit of the rule in training/);
  });

  it('gives the same routing figures to the last digit on every CPU backend', async () => {
    for (const backend of BACKENDS) {
      const more =
        backend === 'threads'
          ? { lanes: 2 }
          : backend === 'processes'
            ? { devices: ['cpu', 'cpu'], oneProcessPer: 'device' as const }
            : {};
      const other = await openText({ ...CUT, model: { backend, ...more } });
      try {
        const { rows } = await benchRouting(other, FLAGS);
        expect(rows.map(routingFigures)).toEqual(report.rows.map(routingFigures));
      } finally {
        await other.close();
      }
    }
  });

  it('leaves out rules under which the model comes to no numbers, and says so; never the baseline', async () => {
    const breaking = (algorithm: string): Source => ({
      ...source,
      run: async (call, rule, signal) => {
        const run = await source.run(call, rule, signal);
        if (rule.options[0]!.algorithm !== algorithm) return run;
        return { ...run, sequences: run.sequences.map((own) => ({ ...own, bits: Number.NaN })) };
      },
    });
    const flags = { presets: 'trained,hash', factors: 'none' };
    const { rows, broken, notes } = await benchRouting(breaking('hash'), flags);
    expect(rows.map(({ name }) => name)).toEqual(['trained', 'trained']);
    expect(broken).toMatchObject([{ name: 'hash', message: expect.stringContaining('NaN') }]);
    expect(notes.join(' ')).toContain('1 under which');
    const refused = benchRouting(breaking('token-choice'), flags);
    await expect(refused).rejects.toMatchObject({ code: 'TURNOUT_LOGITS_INVALID' });
  });

  it('times every stage of the model', () => {
    for (const { times } of report.rows) {
      expect(Object.keys(times.stages)).toEqual([
        'trunk',
        'gate',
        'route',
        'dispatch',
        'transport',
        'compute',
        'combine',
      ]);
      const { p10, p50, p90, p99, samples } = times.call;
      expect([p10, p50, p90, p99].toSorted((a, b) => a - b)).toEqual([p10, p50, p90, p99]);
      expect(samples).toBe(4);
      // The four calls of 72 tokens take p10 to p99 each.
      expect(times.tokensPerSecond).toBeGreaterThanOrEqual(72_000 / p99 - 1e-6);
      expect(times.tokensPerSecond).toBeLessThanOrEqual(72_000 / p10 + 1e-6);
      expect(times.stages.trunk!.p50).toBeGreaterThan(0);
    }
  });
});

describe('texts', () => {
  it('are a file of any bytes, shorter than asked for too', async () => {
    const file = join(temporaryFolder(), 'text');
    writeFileSync(file, Uint8Array.of(0, 255, 10, 200, 65));
    const other = await openText({ ...CUT, text: file });
    try {
      const { rows } = await benchRouting(other, { presets: 'trained', factors: 'none' });
      expect(rows[0]!.quality!.domains.text!.bytes).toBe(5);
      expect(rows[0]!.quality).toMatchObject({ changeError: null });
    } finally {
      await other.close();
    }
  });

  it('pass a package whose states are replaced, and tell its experts of two matrices', async () => {
    const folder = temporaryFolder();
    await makeRecurrentPackage(folder);
    await expect(openText({ ...CUT, folder })).rejects.toMatchObject({ code: 'TURNOUT_INPUT_INVALID' });
    const text = join(folder, 'text');
    writeFileSync(text, 'In the beginning was the Word, and the Word');
    const other = await openText({ ...CUT, folder, text, tokens: 40, window: 20 });
    await using model = await MoeModel.open(folder, { backend: 'inline' });
    try {
      const { rows } = await benchRouting(other, { presets: 'trained,mixtral', factors: 'none' });
      expect(rows[0]!.name).toBe('trained');
      const loads = new Array<number>(4).fill(0);
      for (const start of [0, 20]) {
        const bytes = readFileSync(text).subarray(start, start + 20);
        const ids = BigInt64Array.from([256, ...bytes.subarray(0, -1)], BigInt);
        const feeds = { input_ids: { type: 'int64' as const, dims: [20], data: ids } };
        const { outputs, routing } = await model.trace(feeds);
        for (const [a, expert] of routing[0]![0]!.expert.entries())
          if (routing[0]![0]!.reason[a] === 0) loads[expert]!++;
        const logits = outputs.logits!.data as Float32Array;
        const bits = Array.from(bytes, (byte, i) => {
          const row = Array.from(logits.subarray(i * 257, (i + 1) * 257));
          return -Math.log2(Math.exp(row[byte]!) / row.reduce((sum, value) => sum + Math.exp(value), 0));
        }).reduce((sum, own) => sum + own, 0);
        expect(rows[0]!.quality!.sequences[start / 20]).toBeCloseTo(bits, 2);
      }
      expect(rows[0]!.layers[0]!.kept).toEqual(loads);
      const kept = loads.reduce((sum, own) => sum + own, 0);
      expect(rows[0]!.cost!.flopsPerToken).toBeCloseTo((kept * 2 * 2 * 8 * 8) / 40, 8);
    } finally {
      await other.close();
    }
  });

  it.each([
    [{ text: '/nowhere' }, 'TURNOUT_FILE_MISSING'],
    [{ text: '/dev/null' }, 'TURNOUT_INPUT_INVALID'],
    [{ window: 4096 }, 'TURNOUT_CONTEXT_EXCEEDED'],
    [{ folder: '/nowhere' }, 'TURNOUT_PACKAGE_FILE_MISSING'],
  ])('are refused: %j', async (change, code) => {
    await expect(openText({ ...CUT, ...change })).rejects.toMatchObject({ code });
  });
});
