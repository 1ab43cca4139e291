import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Piece } from '#turnout/model/generate.js';
import { MoeModel } from '#turnout/model/moe-model.js';
import { logSumExp } from '#turnout/model/sampler.js';
import { encodeBytes } from '#turnout/model/tokenizer.js';
import { BABEL } from '../support/babel.js';

let model: MoeModel;
beforeAll(async () => {
  model = await MoeModel.open(BABEL, { backend: 'inline' });
});
afterAll(() => model.close());

const TEXT = 'In the beginning was the Word';
const IDS = [256, ...encodeBytes(TEXT)];
const feeds = (ids: readonly number[]) => ({
  input_ids: { type: 'int64' as const, dims: [ids.length], data: BigInt64Array.from(ids, BigInt) },
});

/** log p of each token but the first, by the model's own logits. */
async function logprobsOf(ids: readonly number[], router?: object): Promise<number[]> {
  const { logits } = await model.run(feeds(ids), router ? { router } : {});
  return ids.slice(1).map((id, t) => {
    const row = (logits!.data as Float32Array).slice(t * 257, (t + 1) * 257);
    return row[id]! - logSumExp(row);
  });
}

describe('what a generation tells beside its text', () => {
  it('scores its prompt, before its text', async () => {
    const generation = model.generate(TEXT, { maxTokens: 4, temperature: 0, scorePrompt: true, top: 2 });
    const pieces: Piece[] = [];
    for await (const piece of generation) pieces.push(piece);
    const [first] = pieces;
    const { promptLogprobs } = await generation.result();
    expect(first).toEqual({ text: '', tokens: [], prompt: promptLogprobs });
    expect(promptLogprobs!.map(({ id }) => id)).toEqual(IDS);
    expect(promptLogprobs![0]).toEqual({ id: 256, logprob: null });
    const expected = await logprobsOf(IDS);
    for (const [t, { logprob, top }] of promptLogprobs!.slice(1).entries()) {
      expect(logprob).toBeCloseTo(expected[t]!, 5);
      expect(top).toHaveLength(2);
      expect(top![0]!.logprob).toBeGreaterThanOrEqual(Math.max(logprob!, top![1]!.logprob));
    }
  });

  it('scores a prompt of several chunks, and nothing but the prompt where no token is asked for', async () => {
    const ids = [256, ...encodeBytes('for line in lines:\n    print(line)\n'.repeat(12))];
    const { promptLogprobs, tokens, reason } = await model
      .generate(ids, { maxTokens: 0, scorePrompt: true })
      .result();
    const expected = await logprobsOf(ids);
    expect({ tokens, reason }).toEqual({ tokens: [], reason: 'scored' });
    promptLogprobs!.slice(1).forEach(({ logprob }, t) => {
      expect(logprob).toBeCloseTo(expected[t]!, 4);
    });
    expect(promptLogprobs).toHaveLength(ids.length);
  });

  it('tells the most probable tokens, the best first, and its own', async () => {
    const { logprobs, tokens } = await model
      .generate(TEXT, { maxTokens: 12, temperature: 0, top: 3 })
      .result();
    expect(logprobs.map(({ id }) => id)).toEqual(tokens);
    for (const { id, logprob, top } of logprobs) {
      expect(top![0]).toEqual({ token: id, logprob });
      expect(top!.map((other) => other.logprob)).toEqual(
        top!.map((other) => other.logprob).toSorted((a, b) => b - a),
      );
    }
    const plain = await model.generate(TEXT, { maxTokens: 2, temperature: 0 }).result();
    expect(plain.logprobs[0]).not.toHaveProperty('top');
  });

  it('tells when its steps ran, if asked', async () => {
    const { timeline, latency, times } = await model
      .generate(TEXT, { maxTokens: 5, temperature: 0, timeline: true })
      .result();
    expect(timeline.map(({ rows }) => rows)).toEqual([IDS.length, 1, 1, 1, 1]);
    let before = 0;
    for (const { from, to, batchRows, rows, layers } of timeline) {
      expect(batchRows).toBeGreaterThanOrEqual(rows);
      expect(from).toBeGreaterThanOrEqual(before);
      before = to;
      expect(layers).toHaveLength(4);
      for (const layer of layers) {
        const spent = Object.values(layer.stages).reduce((sum, ms) => sum + ms, 0);
        expect(layer.from).toBeGreaterThanOrEqual(from);
        expect(layer.from + spent).toBeLessThanOrEqual(to + 1);
      }
    }
    expect(latency.totalMs).toBeGreaterThanOrEqual(before);
    expect(latency.firstTokenMs).toBeGreaterThanOrEqual(timeline[0]!.to);
    const computed = timeline
      .flatMap(({ layers }) => layers)
      .reduce((sum, { stages }) => sum + stages.computeMs, 0);
    expect(computed).toBeCloseTo(times.computeMs, 6);
    expect((await model.generate(TEXT, { maxTokens: 1 }).result()).timeline).toEqual([]);
  });

  it('keeps no routing where none is wanted', async () => {
    const { routing, text } = await model
      .generate(TEXT, { maxTokens: 5, temperature: 0, record: false })
      .result();
    expect(routing).toEqual([]);
    expect(text).toBe((await model.generate(TEXT, { maxTokens: 5, temperature: 0 }).result()).text);
  });

  it('goes on after the end token where it is to be ignored', async () => {
    const options = { maxTokens: 400, temperature: 2, seed: 3 };
    const ended = await model.generate(TEXT, options).result();
    expect(ended.reason).toBe('end-token');
    const { tokens, reason, text } = await model.generate(TEXT, { ...options, ignoreEnd: true }).result();
    expect(reason).toBe('max-tokens');
    expect(tokens).toHaveLength(400);
    expect(tokens.slice(0, ended.tokens.length)).toEqual(ended.tokens);
    expect(tokens[ended.tokens.length]).toBe(256);
    expect(text.startsWith(ended.text)).toBe(true);
  });

  it('draws other tokens for other samples of one seed', async () => {
    const draw = async (sample: number) =>
      (await model.generate(TEXT, { maxTokens: 20, seed: 4, sample }).result()).text;
    expect(await draw(0)).toBe((await model.generate(TEXT, { maxTokens: 20, seed: 4 }).result()).text);
    expect(await draw(1)).toBe(await draw(1));
    expect(await draw(1)).not.toBe(await draw(0));
  });
});

describe('another rule for one call', () => {
  it('is what a model opened with that rule gives', async () => {
    const router = { preset: 'switch', capacityFactor: 1 } as const;
    await using other = await MoeModel.open(BABEL, { backend: 'inline', router });
    const expected = await other.trace(feeds(IDS));
    const got = await model.trace(feeds(IDS), { router });
    expect(got.outputs.logits).toEqual(expected.outputs.logits);
    expect(got.routing[0]!.map(({ expert }) => expert)).toEqual(
      expected.routing[0]!.map(({ expert }) => expert),
    );
    const options = { maxTokens: 20, temperature: 0 };
    const text = (await model.generate(TEXT, { ...options, router: { k: 1 } }).result()).text;
    await using single = await MoeModel.open(BABEL, { backend: 'inline', router: { k: 1 } });
    expect(text).toBe((await single.generate(TEXT, options).result()).text);
    expect(text).not.toBe((await model.generate(TEXT, options).result()).text);
  });

  it('scores by a rule that is not causal, as a whole, and generates by none', async () => {
    const router = { preset: 'expert-choice' } as const;
    const { promptLogprobs, routing } = await model
      .generate(TEXT, { maxTokens: 0, scorePrompt: true, router })
      .result();
    expect(routing[0]!.groups).toHaveLength(1);
    const expected = await logprobsOf(IDS, router);
    promptLogprobs!.slice(1).forEach(({ logprob }, t) => {
      expect(logprob).toBeCloseTo(expected[t]!, 5);
    });
    expect(() => model.generate(TEXT, { maxTokens: 1, router })).toThrow(
      expect.objectContaining({ code: 'TURNOUT_ROUTER_NOT_CAUSAL' }),
    );
  });
});

describe('scoring', () => {
  it('shares the steps of generations, and leaves nothing behind when it is aborted or refused', async () => {
    const long = [256, ...encodeBytes('x'.repeat(1500))];
    const stop = new AbortController();
    const scoring = model.run(feeds(long), { signal: stop.signal });
    expect(model.engine.size).toBe(1);
    stop.abort();
    await expect(scoring).rejects.toMatchObject({ code: 'TURNOUT_ABORTED' });
    const bad = { type: 'int64' as const, dims: [2, 2], data: BigInt64Array.of(1n, 2n, 3n, 999n) };
    await expect(model.run({ input_ids: bad })).rejects.toMatchObject({ code: 'TURNOUT_INPUT_INVALID' });
    await model.engine.step();
    expect(model.engine.stats()).toMatchObject({ running: 0, waiting: 0, cache: { used: 0 } });
  });

  it('counts steps, rows and times', async () => {
    const before = model.engine.stats();
    await model.generate(TEXT, { maxTokens: 3, temperature: 0 }).result();
    const { steps, rows, stepRows, stageMs } = model.engine.stats();
    expect(steps - before.steps).toBe(3);
    expect(rows - before.rows).toBe(IDS.length + 2);
    expect(stepRows.counts.reduce((sum, count) => sum + count, 0)).toBe(steps);
    expect(stepRows.counts[0]! - before.stepRows.counts[0]!).toBe(2);
    expect(stageMs.computeMs).toBeGreaterThan(before.stageMs.computeMs);
  });
});
