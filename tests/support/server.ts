import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { onTestFinished } from 'vitest';
import type { OpenThreadOptions } from '#turnout/model/engine-thread.js';
import type { ServerOptions } from '#turnout/server/options.js';
import { type Server, serve } from '#turnout/server/serve.js';
import { BABEL } from './babel.js';
import { MAIN } from './cli.js';

export interface Answered {
  readonly status: number;
  readonly headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: bodies are looked at field by field
  readonly body: any;
}

export interface AskOptions {
  readonly method?: string;
  readonly key?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
}

/** A client of one server. */
export class Client {
  constructor(readonly url: string) {}

  get port(): number {
    return Number(new URL(this.url).port);
  }

  fetch(path: string, body?: unknown, { method, key, headers, signal }: AskOptions = {}): Promise<Response> {
    const plain = typeof body === 'string' || body instanceof Uint8Array;
    return fetch(this.url + path, {
      method: method ?? (body === undefined ? 'GET' : 'POST'),
      ...(body !== undefined && { body: plain ? body : JSON.stringify(body) }),
      headers: {
        ...(body !== undefined && { 'content-type': 'application/json' }),
        ...(key !== undefined && { authorization: `Bearer ${key}` }),
        ...headers,
      },
      ...(signal && { signal }),
    });
  }

  /** The answer whole; its body from JSON where it is some. */
  async ask(path: string, body?: unknown, options?: AskOptions): Promise<Answered> {
    const response = await this.fetch(path, body, options);
    const all = await response.text();
    const json = response.headers.get('content-type')?.includes('json');
    return { status: response.status, headers: response.headers, body: json ? JSON.parse(all) : all };
  }

  /** The text of a greedy completion of `tokens` tokens. */
  async complete(prompt: string, tokens: number, more: object = {}, options?: AskOptions): Promise<string> {
    const { status, body } = await this.ask('/v1/completions', greedy(prompt, tokens, more), options);
    if (status !== 200) throw new Error(`${status}: ${JSON.stringify(body)}`);
    return body.choices[0].text;
  }

  /** The events of a streamed answer, as they come. */
  async *stream(path: string, body: object, options?: AskOptions): AsyncGenerator<string> {
    const response = await this.fetch(path, { ...body, stream: true }, options);
    if (response.status !== 200) throw new Error(`${response.status}: ${await response.text()}`);
    let held = '';
    for await (const part of response.body!.pipeThrough(new TextDecoderStream())) {
      const lines = (held + part).split('\n\n');
      held = lines.pop()!;
      for (const line of lines) yield line.replace(/^data: /, '');
    }
  }

  // biome-ignore lint/suspicious/noExplicitAny: as above
  async status(): Promise<any> {
    return (await this.ask('/v1/status')).body;
  }

  /** Bytes over a connection of one's own -> all that comes back until it ends. */
  async raw(bytes: string): Promise<string> {
    const socket = connect(this.port, '127.0.0.1');
    socket.on('error', () => {});
    socket.write(bytes);
    return text(socket).catch(() => '');
  }
}

export function greedy(prompt: string, tokens: number, more: object = {}): object {
  return { prompt, max_tokens: tokens, temperature: 0, ignore_eos: true, ...more };
}

/** A server in this process on a free port; closed with the test where one runs, else by its opener. */
export async function openServer(
  server: ServerOptions = {},
  model: OpenThreadOptions = {},
): Promise<Client & { server: Server }> {
  const opened = await serve(BABEL, { backend: 'inline', ...model, server: { port: 0, ...server } });
  return Object.assign(new Client(opened.url), { server: opened });
}

/** The same, for one test alone. */
export async function serverForTest(...options: Parameters<typeof openServer>) {
  const opened = await openServer(...options);
  onTestFinished(() => opened.server.close());
  return opened;
}

/** A real `turnout serve`; killed with the test where it has not ended. */
export async function startServe(flags: readonly string[] = [], env: Readonly<Record<string, string>> = {}) {
  const child = spawn(process.execPath, [MAIN, 'serve', '--port', '0', ...flags], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  const errors = text(child.stderr);
  const ended = once(child, 'close').then(async ([code, signal]) => ({ code, signal, err: await errors }));
  const lines = createInterface(child.stdout);
  const [banner] = await Promise.race([
    once(lines, 'line') as Promise<[string]>,
    ended.then(({ code, err }): [string] => {
      throw new Error(`ended with ${code}: ${err}`);
    }),
  ]);
  const url = /http:\/\/[\d.:]+/.exec(banner)![0];
  return Object.assign(new Client(url), { child, ended, banner });
}
