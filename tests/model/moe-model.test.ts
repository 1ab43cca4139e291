import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MoeModel } from '#turnout/model/moe-model.js';
import { encodeBytes } from '#turnout/model/tokenizer.js';
import { BABEL } from '../support/babel.js';

let model: MoeModel;
beforeAll(async () => {
  model = await MoeModel.open(BABEL, { backend: 'threads', lanes: 2 });
});
afterAll(() => model.close());

const feed = (rows: number[][]) => ({
  input_ids: {
    type: 'int64' as const,
    dims: [rows.length, rows[0]!.length],
    data: BigInt64Array.from(rows.flat(), BigInt),
  },
});
const ids = (text: string) => [256, ...encodeBytes(text)];

describe('MoeModel.run and trace', () => {
  it('scores each row of a batch as a sequence of its own', async () => {
    const rows = [ids('In the beginning'), ids('class Reader(obj')];
    const { logits } = await model.run(feed(rows));
    expect(logits!.dims).toEqual([2, 17, 257]);
    const single = await model.run(feed([rows[1]!]));
    const second = (logits!.data as Float32Array).subarray(17 * 257);
    second.forEach((value, i) => {
      expect(Math.abs(value - (single.logits!.data as Float32Array)[i]!)).toBeLessThan(1e-4);
    });
  });

  it('gives the routing of every token in every layer', async () => {
    const { outputs, routing, times } = await model.trace(feed([ids('Und Gott sprach')]));
    expect(outputs.logits!.dims).toEqual([1, 16, 257]);
    expect(routing).toHaveLength(1);
    expect(routing[0]).toHaveLength(4);
    for (const layer of routing[0]!) {
      expect(layer.tokens).toBe(16);
      expect(layer.token.length).toBe(32);
      expect(
        [...layer.weight].every((weight, i) => (layer.reason[i] === 0 ? weight > 0 : weight === 0)),
      ).toBe(true);
    }
    expect(times[0]!.computeMs).toBeGreaterThan(0);
  });

  it('routes a long sequence as a whole where the rule is not causal', async () => {
    const text = ids('for line in lines:\n    print(line)\n'.repeat(12));
    const router = { preset: 'expert-choice', options: { factor: 1 } } as const;
    await using whole = await MoeModel.open(BABEL, { backend: 'inline', router });
    const { routing } = await whole.trace(feed([text, text]));
    for (const layer of routing.flat()) {
      const capacity = Math.floor(text.length / 8);
      expect(layer.groups).toEqual([{ start: 0, length: text.length, capacity }]);
      const load = new Array<number>(8).fill(0);
      for (const expert of layer.expert) load[expert]++;
      expect(load).toEqual(new Array(8).fill(capacity));
    }
  });

  it('takes one sequence where those of a call would compete', async () => {
    const options = { admit: { scope: 'call' } } as const;
    await using model = await MoeModel.open(BABEL, { backend: 'inline', router: { options } });
    const refused = { code: 'TURNOUT_ROUTER_NOT_CAUSAL', message: expect.stringContaining('isolation') };
    await expect(model.run(feed([ids('a'), ids('b')]))).rejects.toMatchObject(refused);
    expect((await model.run(feed([ids('ab')]))).logits!.dims).toEqual([1, 3, 257]);
  });

  it('takes a sequence without batch axis, and one without tokens', async () => {
    const data = BigInt64Array.of(256n, 65n);
    expect((await model.run({ input_ids: { type: 'int64', dims: [2], data } })).logits!.dims).toEqual([
      2, 257,
    ]);
    const none = { type: 'int64' as const, dims: [3, 0], data: new BigInt64Array(0) };
    expect((await model.run({ input_ids: none })).logits!.dims).toEqual([3, 0, 257]);
  });

  it('refuses feeds of another name, type or shape', async () => {
    const data = BigInt64Array.of(1n, 2n);
    const cases = [
      [{}, 'TURNOUT_INPUT_INVALID'],
      [{ tokens: { type: 'int64', dims: [2], data } }, 'TURNOUT_INPUT_INVALID'],
      [{ input_ids: { type: 'int64', dims: [3], data } }, 'TURNOUT_SHAPE_MISMATCH'],
      [{ input_ids: { type: 'int64', dims: [1, 1, 2], data } }, 'TURNOUT_SHAPE_MISMATCH'],
      [{ input_ids: { type: 'float32', dims: [2], data: Float32Array.of(1, 2) } }, 'TURNOUT_SHAPE_MISMATCH'],
      [
        { input_ids: { type: 'int64', dims: [2], data: BigInt64Array.of(1n, 999n) } },
        'TURNOUT_INPUT_INVALID',
      ],
    ] as const;
    for (const [feeds, code] of cases)
      await expect(model.run(feeds as never)).rejects.toMatchObject({ code });
  });
});

describe('MoeModel.generate', () => {
  it('streams pieces that make up the text', async () => {
    const generation = model.generate('ファイル', { maxTokens: 40, seed: 2 });
    const pieces: string[] = [];
    for await (const piece of generation) pieces.push(piece.text);
    const result = await generation.result();
    expect(pieces.length).toBeGreaterThan(5);
    expect(pieces.join('')).toBe(result.text);
    expect(result.tokens.length).toBe(40);
    expect(result.reason).toBe('max-tokens');
    expect(result.routing[0]!.tokens).toBe(result.prompt.length + 39);
  });

  it('tells how probable tokens were, or leaves it out', async () => {
    const told = await model.generate('The ', { maxTokens: 5, seed: 3 }).result();
    expect(told.logprobs.map(({ id }) => id)).toEqual(told.tokens);
    const generation = model.generate('The ', { maxTokens: 5, seed: 3, logprobs: false });
    const pieces: string[] = [];
    for await (const { text, tokens } of generation) {
      pieces.push(text);
      expect(tokens).toEqual([]);
    }
    const { text, tokens, logprobs } = await generation.result();
    expect(pieces.join('')).toBe(text);
    expect({ text, tokens, logprobs }).toEqual({ text: told.text, tokens: told.tokens, logprobs: [] });
  });

  it('repeats itself with the same seed, on every backend', async () => {
    const options = { maxTokens: 60, seed: 9, temperature: 0.9 };
    await using inline = await MoeModel.open(BABEL, { backend: 'inline' });
    const texts = await Promise.all(
      [model, model, inline].map((each) => each.generate('The ', options).result()),
    );
    expect(new Set(texts.map((result) => result.text)).size).toBe(1);
    const other = await model.generate('The ', { ...options, seed: 10 }).result();
    expect(other.text).not.toBe(texts[0]!.text);
  });

  it('ends before a stop text', async () => {
    const whole = await model.generate('And ', { maxTokens: 60, temperature: 0 }).result();
    const stop = whole.text.slice(10, 13);
    const { text, reason } = await model.generate('And ', { maxTokens: 60, temperature: 0, stop }).result();
    expect(reason).toBe('stop');
    expect(text).toBe(whole.text.slice(0, whole.text.indexOf(stop)));
  });

  it('gives up its place when its reader leaves', async () => {
    for await (const _ of model.generate('And ', { maxTokens: 1000 })) break;
    await model.engine.step();
    expect(model.engine.size).toBe(0);
  });

  it('keeps its deadline, and its signal', async () => {
    await expect(model.generate('And ', { maxTokens: 1900, timeoutMs: 40 }).result()).rejects.toMatchObject({
      code: 'TURNOUT_DEADLINE_EXCEEDED',
    });
    const signal = AbortSignal.timeout(40);
    await expect(model.generate('And ', { maxTokens: 1900, signal }).result()).rejects.toMatchObject({
      code: 'TURNOUT_ABORTED',
    });
  });

  it('refuses what cannot be', async () => {
    const codes = [
      [{ temperature: -1 }, 'TURNOUT_OPTIONS_INVALID'],
      [{ stop: '' }, 'TURNOUT_OPTIONS_INVALID'],
      [{ timeoutMs: 0 }, 'TURNOUT_OPTIONS_INVALID'],
      [{ maxTokens: 2048 }, 'TURNOUT_CONTEXT_EXCEEDED'],
    ] as const;
    for (const [options, code] of codes) {
      expect(() => model.generate('a', options)).toThrow(expect.objectContaining({ code }));
    }
  });

  it('refuses a rule that is not causal', async () => {
    const router = { options: { admit: { scope: 'call' as const } } };
    await using open = await MoeModel.open(BABEL, { backend: 'inline', router });
    expect(() => open.generate('a')).toThrow(expect.objectContaining({ code: 'TURNOUT_ROUTER_NOT_CAUSAL' }));
    expect((await open.run(feed([ids('abc')]))).logits!.dims).toEqual([1, 4, 257]);
  });
});

describe('a closed model', () => {
  it('lets running generations end and takes no more', async () => {
    const closing = await MoeModel.open(BABEL, { backend: 'inline' });
    const running = closing.generate('And ', { maxTokens: 10 }).result();
    await Promise.all([closing.close(), closing.close()]);
    expect((await running).tokens.length).toBe(10);
    expect(() => closing.generate('a')).toThrow(expect.objectContaining({ code: 'TURNOUT_CLOSED' }));
    await expect(closing.run(feed([[1]]))).rejects.toMatchObject({ code: 'TURNOUT_CLOSED' });
  });
});
