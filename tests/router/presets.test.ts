import { describe, expect, it } from 'vitest';
import { createRouter } from '#turnout/router/create.js';
import { presetNames, presetOptions } from '#turnout/router/presets.js';
import { normal, rowKey } from '#turnout/router/random.js';
import { expertsOf, route, table, weightsOf } from '../support/routing.js';

const softmax = (row: number[]) => {
  const total = row.reduce((sum, x) => sum + Math.exp(x), 0);
  return row.map((x) => Math.exp(x) / total);
};
const sigmoid = (row: number[]) => row.map((x) => 1 / (1 + Math.exp(-x)));
const best = (values: number[], k: number) =>
  values
    .map((_, e) => e)
    .sort((a, b) => values[b] - values[a] || a - b)
    .slice(0, k);
const normalised = (weights: number[], scale = 1) => {
  const total = weights.reduce((a, b) => a + b, 0);
  return weights.map((w) => (w / total) * scale);
};

/** Two rows of E logits without ties. */
function logits(E: number): number[][] {
  return [0, 1].map((t) => Array.from({ length: E }, (_, e) => 2 * Math.sin(1 + 7.3 * e + 3.1 * t + e * e)));
}

/** What each rule says, written out: experts and weights of one row. */
const MEANINGS: Record<string, { E: number; rule: (row: number[]) => [number[], number[]]; over?: object }> =
  {
    mixtral: { E: 8, rule: (row) => softmaxOfChosen(row, 2) },
    'gpt-oss': { E: 32, rule: (row) => softmaxOfChosen(row, 4) },
    'granite-moe': { E: 40, rule: (row) => softmaxOfChosen(row, 8) },
    'shazeer-noisy': { E: 16, rule: (row) => softmaxOfChosen(row, 4) },
    olmoe: { E: 64, rule: (row) => chosenOf(softmax(row), 8) },
    'qwen2-moe': { E: 60, rule: (row) => chosenOf(softmax(row), 4) },
    'deepseek-v2-lite': { E: 64, rule: (row) => chosenOf(softmax(row), 6) },
    'qwen3-moe': { E: 128, rule: (row) => withWeights(chosenOf(softmax(row), 8), normalised) },
    switch: { E: 4, rule: (row) => chosenOf(softmax(row), 1) },
    'v-moe': { E: 8, rule: (row) => chosenOf(softmax(row), 2) },
    nllb: { E: 16, rule: (row) => withWeights(chosenOf(softmax(row), 2), normalised) },
    'llama-4': { E: 16, rule: (row) => chosenOf(sigmoid(row), 1) },
    'deepseek-v4': {
      E: 64,
      rule: (row) =>
        withWeights(
          chosenOf(
            row.map((x) => Math.sqrt(Math.log(1 + Math.exp(x)))),
            6,
          ),
          (w) => normalised(w, 1.5),
        ),
    },
    'kimi-k2': { E: 64, rule: (row) => withWeights(chosenOf(sigmoid(row), 8), (w) => normalised(w, 2.827)) },
    'longcat-flash': {
      E: 300,
      rule: (row) => withWeights(chosenOf(softmax(row), 12), (w) => w.map((x) => 6 * x)),
    },
    'ernie-4.5': {
      E: 16,
      over: { score: { bias: Array.from({ length: 16 }, (_, e) => (e % 3) / 10) } },
      rule: (row) => {
        const p = softmax(row);
        const experts = best(
          p.map((x, e) => x + (e % 3) / 10),
          6,
        );
        return [experts, normalised(experts.map((e) => p[e]))];
      },
    },
    'deepseek-v2': {
      E: 32,
      rule: (row) => {
        const p = softmax(row);
        const groups = best(
          Array.from({ length: 8 }, (_, g) => Math.max(...p.slice(4 * g, 4 * g + 4))),
          3,
        );
        const experts = best(
          p.map((x, e) => (groups.includes(Math.floor(e / 4)) ? x : -1)),
          6,
        );
        return [experts, experts.map((e) => 16 * p[e])];
      },
    },
    'deepseek-v3': {
      E: 32,
      over: { score: { bias: Array.from({ length: 32 }, (_, e) => Math.cos(e) / 4) } },
      rule: (row) => {
        const p = sigmoid(row);
        const biased = p.map((x, e) => x + Math.cos(e) / 4);
        const top2 = (g: number) => {
          const [a, b] = biased.slice(4 * g, 4 * g + 4).sort((x, y) => y - x);
          return a + b;
        };
        const groups = best(
          Array.from({ length: 8 }, (_, g) => top2(g)),
          4,
        );
        const experts = best(
          biased.map((x, e) => (groups.includes(Math.floor(e / 4)) ? x : -9)),
          8,
        );
        return [
          experts,
          normalised(
            experts.map((e) => p[e]),
            2.5,
          ),
        ];
      },
    },
  };

function chosenOf(scores: number[], k: number): [number[], number[]] {
  const experts = best(scores, k);
  return [experts, experts.map((e) => scores[e])];
}

function withWeights(
  [experts, weights]: [number[], number[]],
  f: (w: number[]) => number[],
): [number[], number[]] {
  return [experts, f(weights)];
}

function softmaxOfChosen(row: number[], k: number): [number[], number[]] {
  const experts = best(row, k);
  return [experts, softmax(experts.map((e) => row[e]))];
}

describe('presets choose and weigh as their papers say', () => {
  for (const [name, { E, rule, over }] of Object.entries(MEANINGS)) {
    it(name, () => {
      const rows = logits(E);
      const routing = route(presetOptions(name, { ...over, admit: 'none' }), rows);
      const expected = rows.map(rule);
      expect(expertsOf(routing)).toEqual(expected.map(([experts]) => experts));
      expect(weightsOf(routing).flat()).toEqual(
        expected.flatMap(([, w]) => w).map((w) => expect.closeTo(w, 6)),
      );
      expect(routing.weightsOn).toBe(name === 'llama-4' ? 'input' : 'output');
    });
  }
});

describe('later choices', () => {
  const row = [2, 1, 0, -1];
  const p = softmax(row);
  const g2 = p[1] / (p[0] + p[1]);
  const second = (name: string, u: number) => {
    const routing = route(presetOptions(name, { admit: 'none' }), [row], { uniforms: table([[0.99, u]]) });
    return { reason: routing.reason[1], weights: [...routing.weight], experts: [...routing.expert] };
  };

  it('gshard keeps the second expert with probability 2 * g2, and its weights stay those of both', () => {
    const kept = second('gshard', 2 * g2 - 0.001);
    expect(kept.weights).toEqual([expect.closeTo(1 - g2, 6), expect.closeTo(g2, 6)]);
    expect(second('gshard', 2 * g2 + 0.001).weights).toEqual([expect.closeTo(1 - g2, 6), 0]);
  });

  it('st-moe keeps it always from the threshold up, below it in proportion', () => {
    expect(second('st-moe', 0.999).weights[1]).toBeCloseTo(g2, 6);
    const far = [3, 0, -1];
    const share = Math.exp(0) / (Math.exp(3) + Math.exp(0));
    for (const [u, reason] of [
      [share / 0.2 - 0.01, 0],
      [share / 0.2 + 0.01, 2],
    ] as const) {
      const routing = route(presetOptions('st-moe', { admit: 'none' }), [far], { uniforms: table([[0, u]]) });
      expect(routing.reason[1]).toBe(reason);
    }
  });

  it('fairseq-moe samples it from the softmax of the rest', () => {
    const rest = softmax(row.slice(1));
    expect(second('fairseq-moe', rest[0] - 0.001).experts).toEqual([0, 1]);
    expect(second('fairseq-moe', rest[0] + 0.001).experts).toEqual([0, 2]);
    expect(second('fairseq-moe', rest[0] + rest[1] + 0.001).experts).toEqual([0, 3]);
    const { weights } = second('fairseq-moe', 0.999);
    expect(weights).toEqual(normalised([p[0], p[3]]).map((w) => expect.closeTo(w, 6)));
  });

  it('draws from the seed where no numbers are given', () => {
    const outcomes = new Set<number>();
    for (let seed = 0; seed < 40; seed++) {
      const routing = route(presetOptions('gshard', { seed, admit: 'none' }), [row]);
      outcomes.add(routing.reason[1]);
    }
    expect([...outcomes].sort()).toEqual([0, 2]);
  });
});

describe('noise', () => {
  const row = [0.3, 0.2, 0.1, 0];
  it('shazeer-noisy adds noise times softplus of the scale, and weighs with it', () => {
    const noise = [-1, 2, 0, 1];
    const scale = [0, 0.5, -30, 1];
    const noisy = row.map((x, e) => x + noise[e] * Math.log(1 + Math.exp(scale[e])));
    const routing = route(presetOptions('shazeer-noisy', { select: { k: 2 } }), [row], {
      noise: table([noise]),
      noiseScale: table([scale]),
    });
    const [experts, weights] = softmaxOfChosen(noisy, 2);
    expect(expertsOf(routing)).toEqual([experts]);
    expect([...routing.weight]).toEqual(weights.map((w) => expect.closeTo(w, 6)));
  });

  it('v-moe adds N(0, 1/E), seeded per token or given; none without either', () => {
    const given = route(presetOptions('v-moe'), [row], { noise: table([[4, 0, 0, 0]]) });
    expect(given.score[0]).toBeCloseTo(softmax([1.3, 0.2, 0.1, 0])[0], 6);
    const key = rowKey({ seed: 5, request: 0, position: 0, layer: 0, use: 'noise' });
    const noisy = softmax(row.map((x, e) => x + normal(key, e) / 4));
    const seeded = route(presetOptions('v-moe', { seed: 5 }), [row]);
    expect(seeded.scores.data[2]).toBeCloseTo(noisy[2], 6);
    expect(route(presetOptions('v-moe'), [row]).scores.data[2]).toBeCloseTo(softmax(row)[2], 6);
  });
});

describe('presetOptions', () => {
  it('lays overrides over a preset key by key; null takes a key away', () => {
    const options = presetOptions('deepseek-v3', { select: { k: 4, groups: null }, weigh: { scale: 1 } });
    expect(options).toMatchObject({ select: { k: 4 }, weigh: { by: 'normalised', scale: 1 } });
    expect(options.select).not.toHaveProperty('groups');
    expect(presetOptions('deepseek-v3').select).toHaveProperty('groups');
    expect(presetOptions('switch', { admit: null })).not.toHaveProperty('admit');
  });

  it('keeps the two kinds of capacity apart', () => {
    const fixed = presetOptions('switch', { admit: { formula: 'fixed', capacity: 3 } });
    expect(fixed.admit).toEqual({
      formula: 'fixed',
      capacity: 3,
      priority: 'token-major',
      overflow: 'drop',
      scope: 'sequence',
    });
  });

  it('takes a capacity in rows, with or without the word for it', () => {
    expect(presetOptions('mixtral', { admit: { capacity: 3 } }).admit).toEqual({ capacity: 3 });
    expect(presetOptions('gshard', { admit: { capacity: 3 } }).admit).not.toHaveProperty('factor');
  });

  it('takes the options of a package', () => {
    const admit = {
      factor: 2,
      formula: 'deepspeed',
      minimum: 4,
      priority: 'token-major',
      overflow: 'drop',
      scope: 'request',
    } as const;
    expect(presetOptions('mixtral', { select: { k: 2 }, admit })).toMatchObject({
      admit,
      weigh: { by: 'softmax' },
    });
  });

  it('refuses an unknown name with the names that there are', () => {
    expect(() => presetOptions('mixtrel')).toThrow(/expected one of .*mixtral.*, got "mixtrel"/);
    expect(() => presetOptions('toString')).toThrow(/got "toString"/);
  });

  it('gives every preset as valid options that route', () => {
    for (const name of presetNames) {
      const options = presetOptions(name);
      const E = 320;
      const routing = createRouter(options, E).route({
        logits: table(logits(E)),
        tokenIds: Int32Array.of(3, 4),
      });
      expect(routing.tokens).toBe(2);
    }
  });
});
