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
  layers: {
    clients: 2,
    once: async (context) => {
      const path = `/v2/models/${oneOf(LAYERS)}/infer`;
      const answer = expectStatus(await post(context, path, { inputs: [hiddenStates()] }), 200);
      if (!answer.body.includes('output_states')) throw new Error('expected output_states');
      await pause(context, 50);
    },
  },
  events: { clients: 2, once: listen },
  vanishing: { clients: 2, once: vanish },
  malformed: {
    clients: 2,
    once: async ({ client, over: signal }) => {
      const { path, body } = oneOf([...MALFORMED, ...MALFORMED_LAYERS]);
      const answer = await client.ask({ path, body, keep: true, signal });
      if (answer.status < 400 || answer.status > 499)
        throw new Error(`${body.slice(0, 60)}: ${answer.status}`);
      if (json(answer).error === undefined) throw new Error('expected an error that says why');
      await sleep(20);
    },
  },
};

/** Of the package babel, which has gates of its own and 128 numbers to a hidden state. */
const LAYERS = ['babel.layers.0', 'babel.layers.3'] as const;
const HIDDEN = 128;

function hiddenStates() {
  const rows = 1 + Math.floor(Math.random() * 8);
  const data = Array.from({ length: rows * HIDDEN }, () => Math.random() - 0.5);
  return { name: 'hidden_states', datatype: 'FP32', shape: [rows, HIDDEN], data };
}

const MALFORMED = [
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
const MALFORMED_LAYERS = [
  '{"inputs": []}',
  '{"inputs": [{"name": "hidden_states", "datatype": "FP32", "shape": [-1, 128], "data": []}]}',
  '{"inputs": [{"name": "hidden_states", "datatype": "BYTES", "shape": [1, 128], "data": [""]}]}',
  '{"inputs": [{"name": "hidden_states", "datatype": "FP32", "shape": [1000000, 1000000], "data": [1]}]}',
].map((body) => ({ path: `/v2/models/${LAYERS[0]}/infer`, body }));

/** Reads routing and status for some seconds, and leaves. */
async function listen({ client, over }: FlowContext): Promise<void> {
  let text = '';
  const signal = leaving(over, 10_000);
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
  const signal = leaving(context.over, 5 + Math.random() * 300);
  await context.client.ask({ path: COMPLETIONS, body, signal }).catch(ignoreAbort(signal));
  await pause(context, 50);
}

/** Aborts after `ms`, or earlier where the soak is over. Node 20 forgets a timeout that only `AbortSignal.any` knows. */
function leaving(over: AbortSignal, ms: number): AbortSignal {
  const leave = new AbortController();
  const timer = setTimeout(() => leave.abort(), ms);
  leave.signal.addEventListener('abort', () => clearTimeout(timer));
  over.addEventListener('abort', () => leave.abort(), { signal: leave.signal });
  return leave.signal;
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
