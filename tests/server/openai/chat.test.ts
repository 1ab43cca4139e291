import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MoeModel } from '#turnout/model/moe-model.js';
import { type Server, serve } from '#turnout/server/serve.js';
import { BABEL, editManifest } from '../../support/babel.js';

const TEMPLATE = `{% for m in messages %}{% if m.role not in ['system', 'user', 'assistant'] %}{{ raise_exception('role ' + m.role) }}{% endif %}<{{ m.role }}>{{ m.content }}
{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}`;

let folder: string;
let server: Server;
let client: OpenAI;

beforeAll(async () => {
  folder = join(mkdtempSync(join(tmpdir(), 'turnout-')), 'babel');
  cpSync(BABEL, folder, { recursive: true, filter: (path) => !path.endsWith('/training') });
  editManifest(folder, (manifest) => {
    manifest.chatTemplate = TEMPLATE;
  });
  server = await serve(folder, { backend: 'inline', server: { port: 0 } });
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'not needed', maxRetries: 0 });
});

afterAll(async () => {
  await server.close();
  rmSync(join(folder, '..'), { recursive: true });
});

const MESSAGES: OpenAI.ChatCompletionMessageParam[] = [
  { role: 'system', content: 'Be brief.' },
  {
    role: 'user',
    content: [
      { type: 'text', text: 'In the ' },
      { type: 'text', text: 'beginning' },
    ],
  },
];
const PROMPT = '<system>Be brief.\n<user>In the beginning\n<assistant>';

describe('chat completions of a package with a template', () => {
  it('continues what the template makes of the messages', async () => {
    await using model = await MoeModel.open(folder, { backend: 'inline' });
    const expected = await model.generate(PROMPT, { temperature: 0, maxTokens: 20 }).result();
    const request = { model: 'babel', temperature: 0, max_completion_tokens: 20, messages: MESSAGES };
    const { choices, usage, object } = await client.chat.completions.create({
      ...request,
      logprobs: true,
      top_logprobs: 2,
    });
    expect(object).toBe('chat.completion');
    expect(choices[0]!.message).toMatchObject({ role: 'assistant', content: expected.text });
    expect(usage!.prompt_tokens).toBe(1 + PROMPT.length);
    const { content } = choices[0]!.logprobs!;
    expect(content!.map(({ logprob }) => logprob)).toEqual(expected.logprobs.map(({ logprob }) => logprob));
    expect(content![0]!.top_logprobs).toHaveLength(2);
    expect(content!.flatMap(({ bytes }) => bytes)).toEqual(expected.tokens.filter((id) => id < 256));

    let text = '';
    const roles: unknown[] = [];
    for await (const chunk of await client.chat.completions.create({ ...request, stream: true })) {
      text += chunk.choices[0]!.delta.content ?? '';
      roles.push(chunk.choices[0]!.delta.role);
    }
    expect(text).toBe(expected.text);
    expect(roles.filter((role) => role !== undefined)).toEqual(['assistant']);
  });

  it('passes on what the template refuses', async () => {
    const messages = [{ role: 'developer', content: 'x' }] as const;
    await expect(
      client.chat.completions.create({ model: 'babel', messages: [...messages] }),
    ).rejects.toMatchObject({
      status: 400,
      code: 'TURNOUT_INPUT_INVALID',
      message: expect.stringContaining('role developer'),
    });
  });

  it('refuses a template that is none when it opens', async () => {
    const broken = join(folder, '..', 'broken');
    cpSync(folder, broken, { recursive: true });
    editManifest(broken, (manifest) => {
      manifest.chatTemplate = '{% for m in %}';
    });
    await expect(serve(broken, { backend: 'inline', server: { port: 0 } })).rejects.toMatchObject({
      code: 'TURNOUT_MANIFEST_INVALID',
    });
  });
});
