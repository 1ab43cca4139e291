import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Engine } from '#turnout/model/engine.js';
import { MoeModel } from '#turnout/model/moe-model.js';
import { createSampler } from '#turnout/model/sampler.js';
import type { Sequence } from '#turnout/model/sequence.js';
import { makeRecurrentPackage } from '../support/recurrent.js';

let folder: string;
let model: MoeModel;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'turnout-test-'));
  await makeRecurrentPackage(folder);
  model = await MoeModel.open(folder, { backend: 'inline' });
});
afterAll(async () => {
  await model.close();
  await rm(folder, { recursive: true, force: true });
});

const request = (tokens: number[], seed: number) => ({
  tokens,
  maxTokens: 12,
  sampler: createSampler({ seed }),
});

async function finish(engine: Engine, ...sequences: Sequence[]): Promise<number[][]> {
  await engine.drive();
  return sequences.map((sequence) => sequence.tokens);
}

describe('a program with steps per sequence and a state that is replaced', () => {
  it('goes on where the sequence was, in chunks of any size', async () => {
    const tokens = [256, 1, 2, 3, 4, 5, 6, 7];
    const texts = [];
    for (const chunkRows of [1, 3, 64]) {
      const engine = new Engine(model.program, { chunkRows });
      texts.push(...(await finish(engine, engine.add(request(tokens, 1)))));
    }
    expect(texts[1]).toEqual(texts[0]);
    expect(texts[2]).toEqual(texts[0]);
  });

  it('keeps the states of sequences apart', async () => {
    const prompts = [[256], [256, 9, 9], [7], [1, 2, 3, 4, 5, 6, 7, 8, 9]];
    const engine = new Engine(model.program, { chunkRows: 4 });
    const together = await finish(engine, ...prompts.map((tokens, i) => engine.add(request(tokens, i))));
    for (const [i, tokens] of prompts.entries()) {
      const alone = new Engine(model.program);
      expect(await finish(alone, alone.add(request(tokens, i)))).toEqual([together[i]]);
    }
    expect(new Set(together.map(String)).size).toBe(4);
  });
});
