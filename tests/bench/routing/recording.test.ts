import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { layerOptions } from '#turnout/model/layer-router.js';
import { MoeModel } from '#turnout/model/moe-model.js';
import type { Routing } from '#turnout/router/routing.js';
import { Recordings } from '#turnout/server/recordings.js';
import { openLogits } from '../../../dist/bench/routing/plain-logits.js';
import { openRecording } from '../../../dist/bench/routing/recording.js';
import { BABEL } from '../../support/babel.js';
import { benchRouting, find, routingFigures } from '../../support/bench.js';
import { table } from '../../support/routing.js';

let model: MoeModel;
/** Of two requests: the JSON that the server gives, and the routing itself [R][L]. */
let text: string;
let routings: (readonly Routing[])[];

beforeAll(async () => {
  model = await MoeModel.open(BABEL, { backend: 'inline' });
  const layers = model.program.layers.map(({ name, router: { experts, choices, causal } }) => ({
    ...{ name, experts, choices, causal, hasGate: true },
  }));
  const recordings = new Recordings('babel', layers);
  const { id } = recordings.start(0);
  routings = [];
  for (const prompt of ['In the beginning was the Word', 'class Reader(object):\n    def __init__']) {
    const result = await model.generate(prompt, { maxTokens: 24, temperature: 0 }).result();
    recordings.add(0, result);
    routings.push(result.routing);
  }
  text = [...recordings.read(0, id)].join('');
}, 60_000);
afterAll(() => model.close());

// biome-ignore lint/suspicious/noExplicitAny: tests damage it in ways that no type allows
type Loose = any;
const recorded = (): Loose => JSON.parse(text);
const open = (value: unknown = recorded()) => openRecording({ value, perCall: 2 });

/** Kept and dropped assignments of a layer of both requests. */
function countsOf(layer: number) {
  const kept = new Array<number>(8).fill(0);
  let dropped = 0;
  for (const request of routings) {
    const { expert, reason } = request[layer]!;
    expert.forEach((e, a) => {
      if (reason[a] === 0) kept[e]!++;
      else dropped++;
    });
  }
  return { kept, dropped };
}

describe('turnout bench routing on a recording of the server', () => {
  it('has as its baseline what was recorded: the same experts kept, the same drops', async () => {
    const { rows, notes } = await benchRouting(open(), { presets: 'recorded,mixtral', factors: 'none' });
    const row = find(rows, { name: 'recorded' });
    expect(row).toMatchObject({ baseline: true, quality: null, cost: null, choices: 2 });
    expect(row.tokens).toBe(routings[0]![0]!.tokens + routings[1]![0]!.tokens);
    const counts = [0, 1, 2, 3].map(countsOf);
    expect(counts.some(({ dropped }) => dropped > 0)).toBe(true);
    expect(row.layers.map(({ kept }) => kept)).toEqual(counts.map(({ kept }) => kept));
    expect(row.layers.map(({ dropped }) => dropped.capacity)).toEqual(counts.map(({ dropped }) => dropped));
    expect(notes[0]).toContain('quality is not known');
    // mixtral is the rule of babel without its capacity.
    expect(find(rows, { name: 'mixtral' }).drops).toMatchObject({ chosen: row.drops.chosen, dropRate: 0 });
  });

  it('decides again as it was decided, under the rule of the package', async () => {
    const source = open();
    const options = model.manifest.layers.map((layer) => layerOptions(layer));
    const routers = options.map((own, layer) => source.routerOf(own, layer));
    const { layers } = await source.run(0, { options, routers });
    layers.forEach(({ routing }, layer) => {
      for (const key of ['expert', 'reason', 'weight', 'slot'] as const)
        expect([...routing[key]]).toEqual(routings.flatMap((request) => [...request[layer]![key]]));
    });
  });

  it('gives the same figures again to the last digit', async () => {
    const flags = { presets: 'recorded,gshard,sinkhorn,hash', factors: '1', scopes: 'request,call' };
    const [first, again] = [await benchRouting(open(), flags), await benchRouting(open(), flags)];
    expect(first.rows.length).toBeGreaterThan(20);
    expect(again.rows.map(routingFigures)).toEqual(first.rows.map(routingFigures));
    expect(again.inputs).toBe(first.inputs);
  });

  it('lets the requests of a call compete under scope call, and only then', async () => {
    const flags = { presets: 'mixtral', factors: '1', priorities: 'token-major', overflows: 'drop' };
    const together = await benchRouting(open(), flags);
    const apart = await benchRouting(openRecording({ value: recorded(), perCall: 1 }), flags);
    const kept = (rows: typeof apart.rows, scope: string) =>
      find(rows, { scope, factor: 1 }).layers.map((layer) => layer.kept);
    expect(kept(together.rows, 'sequence')).toEqual(kept(apart.rows, 'sequence'));
    expect(kept(apart.rows, 'call')).toEqual(kept(apart.rows, 'sequence'));
    expect(kept(together.rows, 'call')).not.toEqual(kept(apart.rows, 'call'));
  });

  it.each([
    ['of another format', (r: Loose) => ({ ...r, format: 'notes' }), 'TURNOUT_INPUT_INVALID'],
    ['of a later version', (r: Loose) => ({ ...r, version: 2 }), 'TURNOUT_INPUT_INVALID'],
    ['that is no object', () => [], 'TURNOUT_INPUT_INVALID'],
    ['without requests', (r: Loose) => ({ ...r, requests: [] }), 'TURNOUT_INPUT_INVALID'],
    [
      'with too few logits',
      (r: Loose) => {
        r.requests[0].layers[1].logits = r.requests[0].layers[1].logits.slice(0, 40);
        return r;
      },
      'TURNOUT_SHAPE_MISMATCH',
    ],
    [
      'with other tokens than ids',
      (r: Loose) => {
        r.requests[1].tokens = 3;
        return r;
      },
      'TURNOUT_SHAPE_MISMATCH',
    ],
    [
      'with a layer less',
      (r: Loose) => {
        r.requests[1].layers.pop();
        return r;
      },
      'TURNOUT_SHAPE_MISMATCH',
    ],
    [
      'with a reason that is none',
      (r: Loose) => {
        const layer = r.requests[0].layers[0];
        layer.drops = Buffer.from(layer.drops, 'base64').fill(9).toString('base64');
        return r;
      },
      'TURNOUT_INPUT_INVALID',
    ],
  ])('refuses one %s', (_, damage, code) => {
    expect(() => open(damage(recorded()))).toThrow(expect.objectContaining({ code }));
  });

  it('refuses logits that are no numbers when it routes them', async () => {
    const bad = recorded();
    const layer = bad.requests[0].layers[2];
    const bytes = Buffer.from(layer.logits, 'base64');
    bytes.writeFloatLE(Number.NaN, 4 * 11);
    layer.logits = bytes.toString('base64');
    const refused = benchRouting(open(bad), { presets: 'mixtral', factors: 'none' });
    await expect(refused).rejects.toMatchObject({ code: 'TURNOUT_LOGITS_INVALID' });
  });
});

describe('turnout bench routing on plain logits', () => {
  const logits = table([
    ...new Array(6).fill([2, 1, 0, 0]),
    [0, 0, 1, 2],
    [-1, 0, Number.NEGATIVE_INFINITY, 3],
  ]);
  const flags = { presets: 'switch,mixtral,hash', factors: '1,none', scopes: 'sequence', overflows: 'drop' };

  it('cuts them into sequences, and leaves hash routing out where there are no ids', async () => {
    const input = { logits, sequences: [{ length: 4 }, { length: 0 }, { length: 4 }] };
    const { rows, source } = await benchRouting(openLogits({ input, perCall: 2 }), flags);
    expect(source).toMatchObject({ kind: 'logits', tokens: 8, sequences: 2 });
    expect(new Set(rows.map(({ name }) => name))).toEqual(new Set(['switch', 'mixtral']));
    // One row for each expert of each sequence.
    const own = find(rows, { name: 'switch', factor: 1, priority: 'token-major' });
    expect(own.layers[0]).toMatchObject({ load: [6, 0, 0, 2], kept: [2, 0, 0, 1] });
    const ids = { ...input, tokenIds: Int32Array.from([1, 1, 1, 1, 1, 1, 1, 1]) };
    const hashed = await benchRouting(openLogits({ input: ids, perCall: 2 }), flags);
    expect(find(hashed.rows, { name: 'hash', factor: 'none' }).load.maxVio).toBeGreaterThan(1);
  });

  it.each([
    [{ logits, noise: logits }, 'TURNOUT_INPUT_INVALID'],
    [{ logits: table([], 4) }, 'TURNOUT_INPUT_INVALID'],
    [{ logits, sequences: [{ length: 3 }] }, 'TURNOUT_SHAPE_MISMATCH'],
    [{ logits, tokenIds: Int32Array.of(1) }, 'TURNOUT_SHAPE_MISMATCH'],
  ])('refuses what is not theirs %#', (input, code) => {
    expect(() => openLogits({ input, perCall: 2 })).toThrow(expect.objectContaining({ code }));
  });
});
