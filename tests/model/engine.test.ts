import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { TurnoutError } from '#turnout/errors.js';
import { Engine } from '#turnout/model/engine.js';
import { MoeModel } from '#turnout/model/moe-model.js';
import { createSampler } from '#turnout/model/sampler.js';
import type { Sequence, SequenceEvent } from '#turnout/model/sequence.js';
import { encodeBytes } from '#turnout/model/tokenizer.js';
import { loadOf } from '#turnout/router/load.js';
import { joinRoutings } from '#turnout/router/slice.js';
import { BABEL, copyOfBabel, rewrite } from '../support/babel.js';
import { losing } from '../support/losing.js';

const PROMPTS = [
  'In the beginning was the Word',
  'def read(path):\n',
  '#include <stdio.h>\n',
  'Die Datei ',
  'ファイルを',
];
/** Scores nearer than this may be ordered otherwise by the rounding of a sum in another order. */
const NEAR_TIE = 1e-4;

let model: MoeModel;
beforeAll(async () => {
  model = await MoeModel.open(BABEL, { backend: 'inline' });
});
afterAll(() => model.close());

/** A sequence that generates `maxTokens` tokens after a text. */
const request = (text: string, seed: number, maxTokens = 24) => ({
  tokens: [256, ...encodeBytes(text)],
  maxTokens,
  sampler: createSampler({ seed, temperature: 0.8 }),
  record: true,
});

async function events(sequence: Sequence): Promise<SequenceEvent[]> {
  const all: SequenceEvent[] = [];
  for await (const event of sequence) all.push(event);
  return all;
}

async function finish(engine: Engine, ...sequences: Sequence[]): Promise<number[][]> {
  const [read] = await Promise.all([Promise.all(sequences.map(events)), engine.drive()]);
  return read.map((list) => list.flatMap((event) => (event.kind === 'token' ? [event.token] : [])));
}

const alone = async (text: string, seed: number) => {
  const engine = new Engine(model.program);
  const sequence = engine.add(request(text, seed));
  await finish(engine, sequence);
  return sequence;
};

/** Compares assignment for assignment; stops at the first near tie that went the other way, and counts it. */
function compareRouting(a: Sequence, b: Sequence): { compared: number; ties: number } {
  let compared = 0;
  for (let layer = 0; layer < a.recorded.length; layer++) {
    const [one, two] = [joinRoutings(a.recorded[layer]!), joinRoutings(b.recorded[layer]!)];
    for (let i = 0; i < one.expert.length; i++) {
      const same = one.expert[i] === two.expert[i] && one.reason[i] === two.reason[i];
      if (!same) {
        expect(gapAt(one, one.token[i]!), `layer ${layer}, token ${one.token[i]}`).toBeLessThan(NEAR_TIE);
        return { compared, ties: 1 };
      }
      expect(Math.abs(one.weight[i]! - two.weight[i]!)).toBeLessThan(1e-4);
      compared++;
    }
  }
  return { compared, ties: 0 };
}

/** Distance of the k-th and the next score of a token. */
function gapAt({ logits, choices, experts }: ReturnType<typeof joinRoutings>, token: number): number {
  const sorted = [...logits.data.subarray(token * experts, (token + 1) * experts)].sort((x, y) => y - x);
  return sorted[choices - 1]! - sorted[choices]!;
}

describe('a sequence among strangers', () => {
  it('gives the text and the routing that it gives alone', { timeout: 120_000 }, async () => {
    const engine = new Engine(model.program, { chunkRows: 16 });
    const crowd: Sequence[] = [];
    for (let i = 0; i < 32; i++) {
      const text = PROMPTS[i % PROMPTS.length]!.repeat(1 + (i % 4));
      crowd.push(engine.add(request(text, i)));
      if (i % 3 === 0) await engine.step();
    }
    const texts = await finish(engine, ...crowd);
    let ties = 0;
    for (const i of [0, 7, 13, 31]) {
      const single = await alone(PROMPTS[i % PROMPTS.length]!.repeat(1 + (i % 4)), i);
      const result = compareRouting(single, crowd[i]!);
      ties += result.ties;
      if (result.ties === 0) {
        expect(result.compared).toBeGreaterThan(100);
        expect(texts[i]).toEqual(single.tokens.slice(single.request.tokens.length));
      }
    }
    expect(ties, 'near ties that went the other way').toBeLessThanOrEqual(1);
  });

  it('gives the same text in chunks of any size', async () => {
    const text = 'And God said, Let there be light: and there was light. '.repeat(3);
    const expected = (await alone(text, 5)).tokens;
    for (const chunkRows of [1, 2, 7, 50, 500]) {
      const engine = new Engine(model.program, { chunkRows });
      const sequence = engine.add(request(text, 5));
      await finish(engine, sequence);
      expect(sequence.tokens, `chunks of ${chunkRows}`).toEqual(expected);
    }
  });

  it('is scored alike row by row and in one chunk', async () => {
    const ids = [256, ...encodeBytes('The same was in the beginning with God.')];
    const score = async (chunkRows: number) => {
      const engine = new Engine(model.program, { chunkRows });
      const sequence = engine.add({ tokens: ids, maxTokens: 0, logits: 'all' });
      const [read] = await Promise.all([events(sequence), engine.drive()]);
      return read.flatMap((event) => (event.kind === 'logits' ? [...event.logits.data] : []));
    };
    const [rows, whole] = [await score(1), await score(64)];
    expect(rows.length).toBe(ids.length * 257);
    rows.forEach((value, i) => {
      expect(Math.abs(value - whole[i]!)).toBeLessThan(1e-4);
    });
  });
});

describe('the engine between steps', () => {
  it('lets a sequence go without a trace in the others', async () => {
    const engine = new Engine(model.program);
    const [first, gone, last] = PROMPTS.slice(0, 3).map((text, i) => engine.add(request(text, i)));
    for (let i = 0; i < 6; i++) await engine.step();
    engine.abort(gone!);
    await expect(events(gone!)).rejects.toMatchObject({ code: 'TURNOUT_ABORTED' });
    const [a, c] = await finish(engine, first!, last!);
    expect(a).toEqual((await alone(PROMPTS[0]!, 0)).tokens.slice(first!.request.tokens.length));
    expect(c).toEqual((await alone(PROMPTS[2]!, 2)).tokens.slice(last!.request.tokens.length));
    expect(engine.size).toBe(0);
  });

  it('ends a sequence with its signal, before and after it has begun', async () => {
    const engine = new Engine(model.program);
    const early = engine.add({ ...request('a', 1), signal: AbortSignal.abort() });
    await expect(events(early)).rejects.toMatchObject({ code: 'TURNOUT_ABORTED' });
    const control = new AbortController();
    const late = engine.add({ ...request('a', 1, 1000), signal: control.signal });
    const driving = engine.drive();
    setTimeout(() => control.abort(), 30);
    await expect(events(late)).rejects.toMatchObject({ code: 'TURNOUT_ABORTED' });
    await driving;
    expect(engine.size).toBe(0);
  });

  it('moves no sequence when a step fails, and goes on with the next', async () => {
    const engine = new Engine(model.program);
    const sequence = engine.add(request(PROMPTS[0]!, 3));
    await engine.step();
    await engine.step();
    const before = sequence.cached;
    await expect(engine.step({ signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: 'TURNOUT_ABORTED',
    });
    expect(sequence.cached).toBe(before);
    const [text] = await finish(engine, sequence);
    expect(text).toEqual((await alone(PROMPTS[0]!, 3)).tokens.slice(sequence.request.tokens.length));
  });

  it('lets sequences wait for cache blocks, and refuses what can never fit', async () => {
    const engine = new Engine(model.program, { cacheBlocks: 1 });
    const both = [engine.add(request('one', 1)), engine.add(request('two', 2))];
    expect((await engine.step()).sequences).toBe(1);
    const texts = await finish(engine, ...both);
    expect(texts.map((text) => text.length)).toEqual([24, 24]);
    expect(() => engine.add(request('a'.repeat(60), 1))).toThrow(
      expect.objectContaining({ code: 'TURNOUT_CACHE_EXCEEDED' }),
    );
  });

  it('gives each of many sequences its turn', async () => {
    const engine = new Engine(model.program, { decodeRows: 4 });
    const many = Array.from({ length: 12 }, (_, i) => engine.add(request('', i, 8)));
    for (let i = 0; i < 6; i++) expect((await engine.step()).rows).toBe(4);
    expect(many.map((sequence) => sequence.generated)).toEqual(new Array(12).fill(2));
    await finish(engine, ...many);
  });

  it('has nothing to do without sequences', async () => {
    expect(await new Engine(model.program).step()).toEqual({ rows: 0, sequences: 0 });
  });
});

describe('what the engine refuses', () => {
  const add = (change: object) => () => new Engine(model.program).add({ ...request('a', 1), ...change });
  it.each([
    ['no tokens', { tokens: [] }, 'TURNOUT_INPUT_INVALID'],
    ['a token outside the vocabulary', { tokens: [257] }, 'TURNOUT_INPUT_INVALID'],
    ['half a token', { tokens: [1.5] }, 'TURNOUT_INPUT_INVALID'],
    ['a negative number of tokens', { maxTokens: -1 }, 'TURNOUT_INPUT_INVALID'],
    ['more than the context', { maxTokens: 2047 }, 'TURNOUT_CONTEXT_EXCEEDED'],
  ])('%s', (_, change, code) => {
    expect(add(change)).toThrow(expect.objectContaining({ code }));
  });

  it('options that are no counts', () => {
    for (const options of [{ chunkRows: 0 }, { decodeRows: -1 }, { cacheBlocks: 0.5 }]) {
      expect(() => new Engine(model.program, options)).toThrow(
        expect.objectContaining({ code: 'TURNOUT_OPTIONS_INVALID' }),
      );
    }
  });

  it('new sequences once closed; those that run end', async () => {
    const engine = new Engine(model.program);
    const sequence = engine.add(request('a', 1));
    const read = events(sequence);
    await engine.close();
    expect((await read).at(-1)).toEqual({ kind: 'end', reason: 'max-tokens' });
    expect(() => engine.add(request('a', 1))).toThrow(expect.objectContaining({ code: 'TURNOUT_CLOSED' }));
  });
});

describe('a sequence whose rows are not finite', () => {
  it('ends alone', async () => {
    const folder = copyOfBabel();
    const poison = 1;
    rewrite(folder, 'trunk-00.bin', (data) => {
      const hidden = 128;
      for (let i = 0; i < hidden; i++) data.writeFloatLE(Number.NaN, (poison * hidden + i) * 4);
      return data;
    });
    await using poisoned = await MoeModel.open(folder, { backend: 'inline' });
    const engine = new Engine(poisoned.program);
    const sane = engine.add(request(PROMPTS[0]!, 4));
    const chunk = engine.add({ ...request('x', 1), tokens: [256, 65, poison, 66] });
    const single = engine.add({ ...request('x', 1), tokens: [poison] });
    const failed = [chunk, single].map((sequence) =>
      expect(events(sequence)).rejects.toMatchObject({
        code: 'TURNOUT_LOGITS_INVALID',
        details: { layer: 0 },
      }),
    );
    const [text] = await finish(engine, sane);
    await Promise.all(failed);
    expect(text).toEqual((await alone(PROMPTS[0]!, 4)).tokens.slice(sane.request.tokens.length));
    const after = engine.add(request(PROMPTS[1]!, 2));
    expect((await finish(engine, after))[0]).toEqual(
      (await alone(PROMPTS[1]!, 2)).tokens.slice(after.request.tokens.length),
    );
  });
});

describe('sequences whose lane dies under a step', () => {
  const dying = (times: number) => {
    const run = model.backend.run.bind(model.backend);
    let calls = 0;
    return vi.spyOn(model.backend, 'run').mockImplementation((batches, options) => {
      calls++;
      const dies = calls > 6 && calls <= 6 + times;
      return dies
        ? Promise.reject(new TurnoutError('TURNOUT_LANE_DIED', 'lane 0 died'))
        : run(batches, options);
    });
  };

  it('go on as if nothing had been, for the step is tried again', async () => {
    const expected = await alone(PROMPTS[0]!, 3);
    using run = dying(2);
    const engine = new Engine(model.program);
    const sequence = engine.add(request(PROMPTS[0]!, 3));
    expect((await finish(engine, sequence))[0]).toEqual(
      expected.tokens.slice(sequence.request.tokens.length),
    );
    expect(run).toHaveBeenCalled();
  });

  it('end with its error where it dies each time, and later ones live', async () => {
    using _ = dying(3);
    const engine = new Engine(model.program);
    const sequence = engine.add(request(PROMPTS[0]!, 3));
    await expect(Promise.all([events(sequence), engine.drive()])).rejects.toMatchObject({
      code: 'TURNOUT_LANE_DIED',
    });
    expect(await finish(engine, engine.add(request(PROMPTS[1]!, 2)))).toHaveLength(1);
  });
});

describe('sequences while experts are lost', () => {
  it('go on, and each sees in its routing what it lost', async () => {
    /** [L] the lost expert of each layer, of 8. */
    const gone = [2, -1, -1, 5];
    const without = losing(model.backend, [gone[0]!, 3 * 8 + gone[3]!]);
    using run = vi.spyOn(model.backend, 'run').mockImplementation(without);
    const engine = new Engine(model.program, { chunkRows: 16 });
    const all = PROMPTS.map((text, i) => engine.add(request(text, i)));
    const texts = await finish(engine, ...all);
    expect(run).toHaveBeenCalled();
    expect(texts.map((text) => text.length)).toEqual(all.map(() => 24));
    let losses = 0;
    for (const { recorded, counters, cached } of all) {
      for (const [layer, chunks] of recorded.entries()) {
        const routing = joinRoutings(chunks);
        const { kept, dropped } = loadOf(routing);
        expect([routing.tokens, kept[gone[layer]!] ?? 0]).toEqual([cached, 0]);
        const admitted = kept.map((count, e) => (e === gone[layer] ? count + dropped.lost : count));
        expect(admitted).toEqual([...counters[layer]!.kept]);
        losses += dropped.lost;
      }
    }
    expect(losses).toBeGreaterThan(50);
  });
});
