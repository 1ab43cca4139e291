import { setTimeout as sleep } from 'node:timers/promises';
import type { Answer, Client } from './client.js';

/* What the clients of the soak do, each again and again until it is over. Each throws where the server answers wrongly. */

export interface FlowContext {
  readonly client: Client;
  readonly prompts: readonly string[];
  /** Aborts when the soak is over. */
  readonly over: AbortSignal;
}

export interface Flow {
  readonly clients: number;
  once(context: FlowContext): Promise<void>;
}

const COMPLETIONS = '/v1/completions';

export const FLOWS: Readonly<Record<string, Flow>> = {
  completions: {
    clients: 6,
    once: async (context) => {
      const extras = [{}, { logprobs: 3, echo: true }, { n: 2 }, { return_routed_experts: true }];
      const body = { ...someCompletion(context), ...oneOf(extras) };
      const { choices } = json(expectStatus(await post(context, COMPLETIONS, body), 200));
      if (!Array.isArray(choices) || choices.length === 0) throw new Error('expected choices');
    },
  },
  streams: {
    clients: 6,
    once: async (context) => {
      const body = { ...someCompletion(context), stream: true, stream_options: { include_usage: true } };
      const answer = expectStatus(await post(context, COMPLETIONS, body), 200);
      if (!answer.body.toString().endsWith('data: [DONE]\n\n')) throw new Error('a stream was cut off');
    },
  },
  traces: {
    clients: 1,
    once: async (context) => {
      const body = { text: oneOf(context.prompts), max_tokens: 8 };
      const { experts } = json(expectStatus(await post(context, '/v1/routing/trace', body), 200));
      if (!Array.isArray(experts) || experts.length === 0) throw new Error('expected the experts of tokens');
      await pause(context, 300);
    },
  },
  scrapes: {
    clients: 1,
    once: async (context) => {
      for (const path of ['/metrics', '/v1/status', '/v1/routing', '/v1/models', '/docs/openapi.json']) {
        const { over: signal } = context;
        expectStatus(await context.client.ask({ path, keep: true, signal }), 200);
        await pause(context, 200);
      }
    },
  },
  events: { clients: 2, once: listen },
  vanishing: { clients: 2, once: vanish },
  malformed: {
    clients: 2,
    once: async ({ client, over: signal }) => {
      const { path, body } = oneOf(MALFORMED);
      const answer = await client.ask({ path, body, keep: true, signal });
      if (answer.status < 400 || answer.status > 499)
        throw new Error(`${body.slice(0, 60)}: ${answer.status}`);
      if (json(answer).error === undefined) throw new Error('expected an error that says why');
      await sleep(20);
    },
  },
};

const MALFORMED: readonly { readonly path: string; readonly body: string }[] = [
  '',
  '{',
  'null',
  '[]',
  '{"prompt": 1}',
  '{"prompt": "a", "max_tokens": -1}',
  '{"prompt": "a", "max_tokens": 1e9}',
  '{"prompt": "a", "temperature": "hot"}',
  '{"prompt": [1, 2, 9999]}',
  '{"prompt": "a", "unknown": true}',
  `{"prompt": ${'['.repeat(5000)}${']'.repeat(5000)}}`,
  '{"prompt": "a", "__proto__": {}}',
].map((body) => ({ path: COMPLETIONS, body }));

/** Reads routing and status for some seconds, and leaves. */
async function listen({ client, over }: FlowContext): Promise<void> {
  let text = '';
  const signal = AbortSignal.any([over, AbortSignal.timeout(10_000)]);
  const onData = (part: Buffer) => {
    text += part;
  };
  await client.ask({ path: '/v1/routing/events', signal, onData }).catch(ignoreAbort(signal));
  if (!over.aborted && text.split('event: routing').length < 8)
    throw new Error('expected an event each second');
}

/** Leaves in the middle of a body, or of an answer. */
async function vanish(context: FlowContext): Promise<void> {
  const body = JSON.stringify({ ...someCompletion(context), max_tokens: 512, stream: Math.random() < 0.7 });
  if (Math.random() < 0.3) await context.client.leaveInBody(COMPLETIONS, body);
  const signal = AbortSignal.any([context.over, AbortSignal.timeout(5 + Math.floor(Math.random() * 300))]);
  await context.client.ask({ path: COMPLETIONS, body, signal }).catch(ignoreAbort(signal));
  await pause(context, 50);
}

function ignoreAbort(signal: AbortSignal): (error: unknown) => undefined {
  return (error) => {
    if (!signal.aborted) throw error;
    return undefined;
  };
}

function someCompletion({ prompts }: FlowContext): object {
  const max_tokens = 8 + Math.floor(Math.random() * 120);
  return { prompt: oneOf(prompts), max_tokens, temperature: Math.random() < 0.5 ? 0 : 1 };
}

function post({ client, over: signal }: FlowContext, path: string, body: object): Promise<Answer> {
  return client.ask({ path, body: JSON.stringify(body), keep: true, signal });
}

function expectStatus(answer: Answer, status: number): Answer {
  if (answer.status === status) return answer;
  throw new Error(`expected status ${status}, got ${answer.status}: ${answer.body.toString().slice(0, 300)}`);
}

function json({ body }: Answer): Record<string, unknown> {
  return JSON.parse(body.toString()) as Record<string, unknown>;
}

function oneOf<T>(all: readonly T[]): T {
  return all[Math.floor(Math.random() * all.length)]!;
}

async function pause({ over: signal }: FlowContext, ms: number): Promise<void> {
  await sleep(ms, undefined, { signal });
}
