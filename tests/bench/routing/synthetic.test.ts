import { describe, expect, it } from 'vitest';
import type { Shape } from '../../../dist/bench/routing/names.js';
import { openSynthetic } from '../../../dist/bench/routing/synthetic.js';
import { benchRouting, find } from '../../support/bench.js';

const open = (shape: Shape, more = {}) =>
  openSynthetic({ shape, experts: 8, tokens: 8192, window: 256, perCall: 4, seed: 0, ...more });
const DROPLESS = { presets: 'switch', factors: 'none' };

const WANTED = '34,25,21,12,10,8,9,9';
const BALANCED = '8,6,8,9,7,7,8,11';
/** Rule, order, [E] chosen, [E] kept, switch loss and z-loss. */
const GOLDEN = [
  ['gshard', 'k-major', WANTED, '16,16,12,10,9,6,7,6', 1.2709386887287286, 6.064194588332923],
  ['mixtral', '-', WANTED, WANTED, 1.2709386887287286, 6.064194588332923],
  ['sinkhorn', '-', BALANCED, BALANCED, 0.9622057188338012, 6.064194588332923],
  ['gshard', 'probability', WANTED, '16,16,13,10,9,6,7,6', 1.2709386887287286, 6.064194588332923],
  ['mixtral', 'probability', WANTED, '16,16,16,12,10,8,9,9', 1.2709386887287286, 6.064194588332923],
  ['sinkhorn', 'probability', BALANCED, '8,6,8,8,7,7,8,8', 0.9622057188338012, 6.064194588332923],
];

/** Share of the first choices of each expert. */
async function shares(shape: Shape, more = {}): Promise<number[]> {
  const { rows } = await benchRouting(open(shape, more), DROPLESS);
  const { load } = find(rows, { name: 'switch', factor: 'none' }).layers[0]!;
  const all = load.reduce((sum, count) => sum + count, 0);
  return load.map((count) => count / all);
}

describe('made-up logits', () => {
  it('are wanted alike when uniform, by 1 / rank when Zipf', async () => {
    for (const share of await shares('uniform')) expect(Math.abs(share - 1 / 8)).toBeLessThan(0.015);
    const mass = [1, 2, 3, 4, 5, 6, 7, 8].reduce((sum, rank) => sum + 1 / rank, 0);
    (await shares('zipf')).forEach((share, e) => {
      expect(Math.abs(share - 1 / (e + 1) / mass)).toBeLessThan(0.015);
    });
  });

  it('all want one expert when adversarial, and lose all but its capacity', async () => {
    expect(await shares('adversarial')).toEqual([1, 0, 0, 0, 0, 0, 0, 0]);
    const flags = { presets: 'deepspeed-moe', factors: '1', scopes: 'sequence', priorities: 'token-major' };
    const { rows } = await benchRouting(open('adversarial'), flags);
    // Each sequence of 256 keeps ceil(256 / 8) = 32 at the one expert.
    const dropped = find(rows, { scope: 'sequence', overflow: 'drop' });
    expect(dropped.layers[0]!.kept).toEqual([32 * 32, 0, 0, 0, 0, 0, 0, 0]);
    expect(dropped.drops).toMatchObject({ chosen: 8192, kept: 1024, tokensDropped: 7168, rerouted: 0 });
    expect(dropped.load).toMatchObject({ maxVio: 7, balancedness: 1 / 8, entropyBits: 0, dead: 7 });
    // The others have room for exactly the rest.
    const moved = find(rows, { scope: 'sequence', overflow: 'next-best' });
    expect(moved.drops).toMatchObject({ kept: 8192, tokensDropped: 0, rerouted: 7168 });
    expect(moved.layers[0]!.kept).toEqual(new Array(8).fill(1024));
  });

  it('drift from the first expert to the last, so that only single calls are skewed', async () => {
    const { rows } = await benchRouting(open('drifting'), DROPLESS);
    const { load } = find(rows, { name: 'switch', factor: 'none' });
    expect(load.maxVio).toBeLessThan(0.1);
    expect(load.callMaxVio).toBeGreaterThan(1.5);
  });

  it('are those of their seed', async () => {
    expect(await shares('zipf')).toEqual(await shares('zipf'));
    expect(await shares('zipf', { seed: 1 })).not.toEqual(await shares('zipf'));
  });

  it('come to these figures on every machine, to the last digit', async () => {
    const made = open('zipf', { tokens: 64, window: 32, perCall: 2 });
    const flags = { presets: 'gshard,mixtral,sinkhorn', factors: '1', scopes: 'call', overflows: 'drop' };
    const { rows } = await benchRouting(made, { ...flags, priorities: 'probability' });
    const told = rows.map(({ name, priority, layers, losses }) => {
      const { z, switch: loss } = losses;
      return [name, priority, layers[0]!.load.join(), layers[0]!.kept.join(), loss, z];
    });
    expect(told).toEqual(GOLDEN);
  });

  it('are refused in a shape that is none', () => {
    expect(() => open('round' as Shape)).toThrow(
      expect.objectContaining({ code: 'TURNOUT_OPTIONS_INVALID' }),
    );
  });

  it('have no quality and no front, and the report says so', async () => {
    const { rows, notes } = await benchRouting(open('zipf', { tokens: 512 }), DROPLESS);
    expect(rows.every(({ quality, cost, onFront }) => quality === null && cost === null && !onFront)).toBe(
      true,
    );
    expect(notes[0]).toContain('quality is not known');
  });
});
