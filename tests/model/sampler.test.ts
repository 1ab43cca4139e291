import { describe, expect, it } from 'vitest';
import { createSampler, logSumExp } from '#turnout/model/sampler.js';

const logits = Float32Array.from([1, 3, 2, -Infinity, 0]);

/** How often each token is drawn over many positions. */
function shares(options: Parameters<typeof createSampler>[0], draws = 20_000): number[] {
  const sampler = createSampler(options);
  const counts = new Array<number>(logits.length).fill(0);
  for (let position = 0; position < draws; position++) counts[sampler(logits, position).token]!++;
  return counts.map((count) => count / draws);
}

const softmax = (values: number[]) => {
  const all = values.reduce((sum, value) => sum + Math.exp(value), 0);
  return values.map((value) => Math.exp(value) / all);
};

describe('createSampler', () => {
  it('takes the most probable token at temperature 0, the lower one of equals', () => {
    expect(createSampler({ temperature: 0 })(logits, 0).token).toBe(1);
    expect(createSampler({ temperature: 0 })(Float32Array.from([2, 5, 5]), 0).token).toBe(1);
  });

  it('draws from the distribution of the model, sharpened by the temperature', () => {
    for (const temperature of [1, 0.5]) {
      const expected = softmax([...logits].map((value) => value / temperature));
      shares({ temperature }).forEach((share, token) => {
        expect(share).toBeCloseTo(expected[token]!, 1);
      });
    }
  });

  it('keeps to the top k and to the nucleus', () => {
    expect(shares({ topK: 2 }).map((share) => share > 0)).toEqual([false, true, true, false, false]);
    expect(shares({ topP: 0.6 }).map((share) => share > 0)).toEqual([false, true, false, false, false]);
    expect(shares({ topP: 0.7 }).map((share) => share > 0)).toEqual([false, true, true, false, false]);
  });

  it('draws the same for the same seed and position, and others for another seed', () => {
    const draw = (seed: number) =>
      Array.from({ length: 50 }, (_, p) => createSampler({ seed })(logits, p).token).join('');
    expect(draw(7)).toBe(draw(7));
    expect(draw(7)).not.toBe(draw(8));
  });

  it('tells the log-probability under the model, whatever the temperature', () => {
    const { token, logprob } = createSampler({ temperature: 0 })(logits, 0);
    expect(logprob).toBeCloseTo(logits[token]! - logSumExp(logits), 12);
  });

  it.each([
    [{ temperature: -1 }],
    [{ temperature: Number.NaN }],
    [{ topK: 0 }],
    [{ topK: 1.5 }],
    [{ topP: 0 }],
    [{ topP: 1.1 }],
    [{ seed: 0.5 }],
  ])('refuses %j', (options) => {
    expect(() => createSampler(options)).toThrow(
      expect.objectContaining({ code: 'TURNOUT_OPTIONS_INVALID' }),
    );
  });
});
