import { stripVTControlCharacters } from 'node:util';
import { describe, expect, it } from 'vitest';
import { drawGeneration, generationJson } from '#turnout/cli/render/generation.js';
import { drawHeatMap } from '#turnout/cli/render/heat-map.js';
import { drawStages } from '#turnout/cli/render/stages.js';
import { COLOUR, PLAIN, styleOf } from '#turnout/cli/render/style.js';
import { drawTokens, drawTokenTable } from '#turnout/cli/render/tokens.js';
import { encodeBytes } from '#turnout/model/tokenizer.js';
import { loseExperts } from '#turnout/router/lose.js';
import { plain, route } from '../support/routing.js';

describe('drawHeatMap', () => {
  const rows = [
    { name: 'layers.0', shares: [0.5, 0.25, 0.25, 0], note: 'dropped none' },
    { name: 'l1', shares: [0, 1, 0, 0] },
  ];

  it('gives numbers and shades without colour', () => {
    expect(drawHeatMap({ title: 'layer', rows }, PLAIN).split('\n')).toEqual([
      'layer        0    1    2    3',
      'layers.0   50▒  25░  25░   0    dropped none',
      'l1          0  100█   0    0 ',
    ]);
  });

  it('keeps the numbers with colour', () => {
    const text = stripVTControlCharacters(drawHeatMap({ title: 'layer', rows }, COLOUR));
    expect(text).toContain(' 50 ');
    expect(text).toContain('100 ');
  });

  it('draws many experts in bands, and none without a fault', () => {
    const wide = drawHeatMap(
      { title: 'layer', rows: [{ name: 'a', shares: new Array(40).fill(1 / 40) }] },
      PLAIN,
    );
    expect(wide.split('\n')).toHaveLength(6);
    expect(drawHeatMap({ title: 'layer', rows: [{ name: 'a', shares: [] }] }, PLAIN)).toBe('');
  });
});

describe('drawTokens', () => {
  it('puts the first kept expert of each byte under its character', () => {
    const bytes = encodeBytes('aé日\n');
    const logits = bytes.map((_, t) => [0, 1, 2].map((e) => (e === t % 3 ? 1 : 0)));
    const routing = route(plain(), logits);
    expect(drawTokens(bytes, [routing], PLAIN).split('\n')).toEqual(['    aé 日 ↵', 'L0  0120120']);
  });

  it('marks a token whose choices were all dropped, and a byte that ends nowhere', () => {
    const options = plain({ admit: { formula: 'fixed', capacity: 1 } });
    const routing = route(options, [
      [1, 0],
      [1, 0],
      [0, 1],
    ]);
    expect(drawTokens([256, 97, 0xe6], [routing], PLAIN).split('\n')).toEqual(['    ▸a\uFFFD', 'L0  0-1']);
  });
});

describe('drawTokenTable', () => {
  it('lists every choice with its weight or the reason of its drop', () => {
    const routing = route(plain({ select: { k: 2 }, admit: { formula: 'fixed', capacity: 1 } }), [
      [3, 2],
      [5, 4],
    ]);
    expect(drawTokenTable([104, 10], [routing])).toBe(
      [
        '    0  h       L0  expert  0 3.000   expert  1 2.000',
        '    1  x0a     L0  expert  0 dropped (capacity)   expert  1 dropped (capacity)',
      ].join('\n'),
    );
  });
});

describe('a generation that lost an expert', () => {
  const routing = loseExperts(
    route(plain({ select: { k: 2 } }), [
      [3, 2, 0],
      [5, 0, 4],
    ]),
    [0, 2],
  );
  const times = {
    trunkMs: 1,
    gateMs: 1,
    routeMs: 1,
    dispatchMs: 1,
    transportMs: 0,
    computeMs: 1,
    combineMs: 1,
  };
  const result = {
    prompt: [104],
    tokens: [105, 106],
    text: 'ij',
    reason: 'max-tokens',
    times,
    routing: [routing],
  } as const;

  it('shows who took its tokens, how many were lost, and which', () => {
    const text = drawGeneration(result, ['layers.0'], { style: PLAIN, table: true });
    expect(text).toContain('L0  1-');
    expect(text).toContain('dropped 3 (lost)');
    expect(text).toContain('expert  0 dropped (lost)   expert  1 5.000');
    expect(text).toContain('expert  0 dropped (lost)   expert  2 dropped (lost)');
  });

  it('says so in JSON', () => {
    const { layers } = generationJson('h', result, ['layers.0']);
    expect(layers[0]).toMatchObject({
      drops: [
        ['lost', false],
        ['lost', 'lost'],
      ],
      weights: [
        [0, 5],
        [0, 0],
      ],
      kept: [0, 1, 0],
      dropped: { lost: 3 },
    });
  });
});

describe('drawStages', () => {
  it('gives each stage its milliseconds and its share', () => {
    expect(drawStages({ gateMs: 1, computeMs: 3 })).toBe('ms by stage: gate 1.0 (25 %), compute 3.0 (75 %)');
    expect(drawStages({ gateMs: 0 })).toBe('ms by stage: gate 0.0 (0 %)');
  });
});

describe('styleOf', () => {
  it('colours a terminal, unless NO_COLOR asks for none', () => {
    expect(styleOf({ isTTY: true }, {})).toBe(COLOUR);
    expect(styleOf({ isTTY: true }, { NO_COLOR: '1' })).toBe(PLAIN);
    expect(styleOf({}, {})).toBe(PLAIN);
  });
});
