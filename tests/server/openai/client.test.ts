import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MoeModel } from '#turnout/model/moe-model.js';
import { routingTable } from '#turnout/server/routing-table.js';
import { type Server, serve } from '#turnout/server/serve.js';
import { BABEL } from '../../support/babel.js';

const PROMPT = 'In the beginning was the Word';
const GREEDY = { model: 'babel', temperature: 0 } as const;

let server: Server;
let model: MoeModel;
let client: OpenAI;

beforeAll(async () => {
  [server, model] = await Promise.all([
    serve(BABEL, { backend: 'inline', server: { port: 0 } }),
    MoeModel.open(BABEL, { backend: 'inline' }),
  ]);
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'not needed', maxRetries: 0 });
});

afterAll(async () => {
  await Promise.all([server.close(), model.close()]);
});

const alone = (prompt: string | number[], maxTokens: number, more: object = {}) =>
  model.generate(prompt, { temperature: 0, maxTokens, ...more }).result();

const post = async (path: string, body: unknown) => {
  const response = await fetch(server.url + path, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  // biome-ignore lint/suspicious/noExplicitAny: the bodies of many endpoints
  return { status: response.status, body: (await response.json()) as any };
};

describe("OpenAI's own client", () => {
  it('lists the package as a model', async () => {
    const { data } = await client.models.list();
    expect(data.map(({ id }) => id)).toEqual(['babel']);
    expect(await client.models.retrieve('babel')).toMatchObject({ id: 'babel', object: 'model' });
    await expect(client.models.retrieve('other')).rejects.toMatchObject({ status: 404 });
  });

  it('continues a prompt as the library does, and says what it used', async () => {
    const completion = await client.completions.create({ ...GREEDY, prompt: PROMPT, max_tokens: 24 });
    const expected = await alone(PROMPT, 24);
    expect(completion.choices[0]).toMatchObject({ text: expected.text, finish_reason: 'length', index: 0 });
    const prompt_tokens = 1 + PROMPT.length;
    expect(completion.usage).toEqual({
      prompt_tokens,
      completion_tokens: 24,
      total_tokens: prompt_tokens + 24,
    });
    expect(completion).toMatchObject({ object: 'text_completion', model: 'babel' });
  });

  it("gives OpenAI's 16 tokens where max_tokens is left out, and the rest of the context to a chat", async () => {
    const { usage } = await client.completions.create({ ...GREEDY, prompt: 'x' });
    expect(usage!.completion_tokens).toBe(16);
  });

  it('takes token ids, lists of texts and lists of ids, and n answers to each', async () => {
    const ids = [256, ...Buffer.from(PROMPT)];
    const texts = async (prompt: string | string[] | number[] | number[][], n = 1) => {
      const { choices } = await client.completions.create({ ...GREEDY, prompt, n, max_tokens: 8 });
      expect(choices.map(({ index }) => index)).toEqual(choices.map((_, i) => i));
      return choices.map(({ text }) => text);
    };
    const [first, second] = await Promise.all([alone(PROMPT, 8), alone('def main', 8)]);
    expect(await texts(ids)).toEqual([first.text]);
    expect(await texts([PROMPT, 'def main'], 2)).toEqual([first.text, first.text, second.text, second.text]);
    expect(await texts([ids, [256, ...Buffer.from('def main')]])).toEqual([first.text, second.text]);
  });

  it('streams the same text in whole characters, with the usage where it is asked for', async () => {
    const prompt = '日本語';
    const expected = await alone(prompt, 60);
    const stream = await client.completions.create({
      ...GREEDY,
      prompt,
      max_tokens: 60,
      stream: true,
      stream_options: { include_usage: true },
    });
    const chunks = [];
    for await (const chunk of stream) chunks.push(chunk);
    const pieces = chunks.flatMap(({ choices }) => choices.map(({ text }) => text));
    expect(pieces.join('')).toBe(expected.text);
    expect(pieces.length).toBeGreaterThan(10);
    expect(pieces.every((piece) => !piece.includes('\uFFFD'))).toBe(true);
    expect(chunks.at(-1)).toMatchObject({ choices: [], usage: { completion_tokens: 60 } });
    expect(chunks.at(-2)!.choices[0]!.finish_reason).toBe('length');
  });

  it('never splits a character, whatever bytes the model gives', async () => {
    // Random text of a byte model is full of broken characters.
    const raw = await fetch(`${server.url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        prompt: '日本',
        temperature: 2,
        seed: 5,
        max_tokens: 300,
        stream: true,
        ignore_eos: true,
      }),
    });
    const bytes = Buffer.from(await raw.arrayBuffer());
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    const frames = text.split('\n\n').filter((frame) => frame.startsWith('data: {'));
    const whole = frames.map((frame) => JSON.parse(frame.slice(6)).choices[0].text).join('');
    const expected = await model
      .generate('日本', { temperature: 2, seed: 5, maxTokens: 300, ignoreEnd: true })
      .result();
    expect(whole).toBe(expected.text);
    expect(frames.length).toBeGreaterThan(50);
  });

  it('ends before stop texts', async () => {
    const stop = ['the', 'zzz'];
    const { choices } = await client.completions.create({ ...GREEDY, prompt: PROMPT, max_tokens: 60, stop });
    const expected = await alone(PROMPT, 60, { stop });
    expect(expected.reason).toBe('stop');
    expect(choices[0]).toMatchObject({ text: expected.text, finish_reason: 'stop' });
  });

  it('draws the same for the same seed, other answers for other choices, and other texts without one', async () => {
    const draw = async (seed?: number) => {
      const body = {
        model: 'babel',
        prompt: PROMPT,
        max_tokens: 24,
        n: 3,
        ...(seed !== undefined && { seed }),
      };
      return (await client.completions.create(body)).choices.map(({ text }) => text);
    };
    const [first, again, other] = [await draw(7), await draw(7), await draw(8)];
    expect(again).toEqual(first);
    expect(other).not.toEqual(first);
    expect(new Set(first).size).toBe(3);
    expect(await draw()).not.toEqual(await draw());
  });

  it('tells log-probabilities with alternatives, offsets and bytes', async () => {
    const { choices } = await client.completions.create({
      ...GREEDY,
      prompt: 'é',
      max_tokens: 12,
      logprobs: 3,
    });
    const expected = await alone('é', 12);
    const logprobs = choices[0]!.logprobs as OpenAI.CompletionChoice.Logprobs & { bytes: number[][] };
    expect(logprobs.bytes.flat()).toEqual(expected.tokens.filter((id) => id < 256));
    expect(logprobs.token_logprobs).toEqual(expected.logprobs.map(({ logprob }) => logprob));
    for (const [i, top] of logprobs.top_logprobs!.entries()) {
      const values = Object.values(top);
      expect(values.length).toBeGreaterThanOrEqual(3);
      // The most probable token was taken.
      expect(Math.max(...values)).toBe(logprobs.token_logprobs![i]);
    }
    expect(logprobs.text_offset![0]).toBe(0);
  });

  it('echoes and scores a prompt alone, as evaluation harnesses ask for it', async () => {
    const request = { ...GREEDY, prompt: PROMPT, max_tokens: 0, echo: true, logprobs: 1 };
    const { choices, usage } = await client.completions.create(request);
    const ids = [256n, ...[...Buffer.from(PROMPT)].map(BigInt)];
    const feeds = {
      input_ids: { type: 'int64', dims: [ids.length], data: BigInt64Array.from(ids) },
    } as const;
    const { logits } = await model.run(feeds);
    const told = choices[0]!.logprobs!.token_logprobs!;
    expect(choices[0]!.text).toBe(PROMPT);
    expect(told).toHaveLength(ids.length);
    expect(told[0]).toBeNull();
    for (let t = 1; t < ids.length; t++) {
      const row = [...(logits!.data as Float32Array).slice((t - 1) * 257, t * 257)];
      const all = Math.log(row.reduce((sum, value) => sum + Math.exp(value), 0));
      expect(told[t]).toBeCloseTo(row[Number(ids[t])]! - all, 5);
    }
    expect(usage!.completion_tokens).toBe(0);
  });

  it('echoes in a stream what it echoes at once', async () => {
    for (const logprobs of [undefined, 2]) {
      const request = { ...GREEDY, prompt: PROMPT, max_tokens: 6, echo: true, ...(logprobs && { logprobs }) };
      const whole = await client.completions.create(request);
      let text = '';
      const told: number[] = [];
      for await (const { choices } of await client.completions.create({ ...request, stream: true })) {
        text += choices[0]!.text;
        told.push(...(choices[0]!.logprobs?.token_logprobs ?? []));
      }
      expect(text).toBe(whole.choices[0]!.text);
      expect(told).toEqual(whole.choices[0]!.logprobs?.token_logprobs ?? []);
    }
  });

  it("gives errors in OpenAI's shape, with what was expected and what came", async () => {
    const wrong = async (body: object) => {
      const error = await client.completions
        .create({ ...GREEDY, prompt: 'x', ...body })
        .catch((e: unknown) => e);
      expect(error).toBeInstanceOf(OpenAI.APIError);
      const { status, code, param, type } = error as InstanceType<typeof OpenAI.APIError>;
      return { status, code, param, type };
    };
    const invalid = { status: 400, code: 'TURNOUT_REQUEST_INVALID', type: 'invalid_request_error' };
    expect(await wrong({ temperature: -1 })).toMatchObject({ ...invalid, param: 'temperature' });
    expect(await wrong({ max_tokens: 1.5 })).toMatchObject({ ...invalid, param: 'max_tokens' });
    expect(await wrong({ presence_penalty: 1 })).toMatchObject({ ...invalid, param: 'presence_penalty' });
    expect(await wrong({ surprise: 1 })).toMatchObject(invalid);
    expect(await wrong({ prompt: [999] })).toMatchObject({ status: 400, code: 'TURNOUT_INPUT_INVALID' });
    expect(await wrong({ prompt: 'x'.repeat(3000) })).toMatchObject({ code: 'TURNOUT_CONTEXT_EXCEEDED' });
    expect(await wrong({ model: 'gpt-4' })).toMatchObject({
      status: 404,
      code: 'TURNOUT_NOT_FOUND',
      param: 'model',
    });
    expect(await wrong({ best_of: 3 })).toMatchObject({ code: 'TURNOUT_UNSUPPORTED', param: 'best_of' });
    expect(await wrong({ n: 128, prompt: ['a', 'b'] })).toMatchObject({ ...invalid, param: 'n' });
  });

  it('says that the package has no chat template', async () => {
    const messages = [{ role: 'user', content: 'hello' }] as const;
    await expect(
      client.chat.completions.create({ ...GREEDY, messages: [...messages] }),
    ).rejects.toMatchObject({
      status: 400,
      code: 'TURNOUT_UNSUPPORTED',
      message: expect.stringContaining('has no chat template'),
    });
  });
});

describe('return_routed_experts', () => {
  const decode = {
    int32: (text: string) => new Int32Array(new Uint8Array(Buffer.from(text, 'base64')).buffer),
    float32: (text: string) => new Float32Array(new Uint8Array(Buffer.from(text, 'base64')).buffer),
  };

  it("carries the experts of the request's own tokens, weights and drops", async () => {
    const ask = {
      ...GREEDY,
      prompt: PROMPT,
      max_tokens: 10,
      return_routed_experts: true,
      return_routing_weights: true,
      return_routing_drops: true,
    };
    // Others run beside it: what comes back must be its own.
    const company = Array.from({ length: 6 }, (_, i) =>
      post('/v1/completions', { prompt: `company ${i}`, max_tokens: 20, seed: i }),
    );
    const { body } = await post('/v1/completions', ask);
    await Promise.all(company);
    const table = routingTable((await alone(PROMPT, 10)).routing);
    const [choice] = body.choices;
    expect(choice.routed_experts_shape).toEqual([PROMPT.length + 1 + 10 - 1, 4, 2]);
    expect(decode.int32(choice.routed_experts)).toEqual(table.experts);
    expect(decode.float32(choice.routing_weights)).toEqual(table.weights);
    expect(new Uint8Array(Buffer.from(choice.routing_drops, 'base64'))).toEqual(table.drops);
    expect(table.drops.some((reason) => reason > 0)).toBe(true);
  });

  it('comes with the last event of a stream, and not unasked', async () => {
    const events = async (more: object) => {
      const response = await fetch(`${server.url}/v1/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ ...GREEDY, prompt: PROMPT, max_tokens: 4, stream: true, ...more }),
      });
      const frames = (await response.text()).split('\n\n').filter((frame) => frame.startsWith('data: {'));
      return frames.map((frame) => JSON.parse(frame.slice(6)).choices[0]);
    };
    const asked = await events({ return_routed_experts: true });
    expect(asked.filter((choice) => 'routed_experts' in choice)).toEqual([asked.at(-1)]);
    expect(asked.at(-1).finish_reason).toBe('length');
    expect((await events({})).some((choice) => 'routed_experts' in choice)).toBe(false);
  });
});
