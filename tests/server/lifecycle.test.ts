import { once } from 'node:events';
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it, vi } from 'vitest';
import { turnout } from '../support/cli.js';
import { processesWith } from '../support/proc.js';
import { type Client, greedy, serverForTest, startServe } from '../support/server.js';

const PROMPT = 'In the beginning ';

/** Waits until so many sequences run. */
const untilRunning = (client: Client, running: number) =>
  vi.waitFor(async () => expect((await client.status()).engine.running).toBe(running), {
    timeout: 10_000,
    interval: 20,
  });

/** What became of a stream: its text, or why it ended early. */
async function readStream(client: Client, tokens: number): Promise<string> {
  let text = '';
  for await (const event of client.stream('/v1/completions', greedy(PROMPT, tokens))) {
    if (event !== '[DONE]') text += JSON.parse(event).choices[0].text;
    else return text;
  }
  throw new Error('the stream ended without its end');
}

/** What a new request is told: a status, or that nobody listens. */
async function tryNew(client: Client): Promise<number | 'refused'> {
  try {
    const { status, headers } = await client.ask('/v1/completions', greedy('a', 1));
    if (status === 503) expect(Number(headers.get('retry-after'))).toBeGreaterThan(0);
    return status;
  } catch {
    return 'refused';
  }
}

describe('turnout serve', { timeout: 60_000 }, () => {
  it.each(['SIGTERM', 'SIGINT'] as const)(
    'ends after %s once running requests have ended, streams too',
    async (signal) => {
      const server = await startServe(['--grace', '20000', '--running', '2']);
      const whole = server.complete(PROMPT, 120);
      const stream = readStream(server, 120);
      await untilRunning(server, 2);
      const waiting = server.ask('/v1/completions', greedy(PROMPT, 5));
      await vi.waitFor(async () => expect((await server.status()).admission.waiting).toBe(1), 5000);
      server.child.kill(signal);
      const told = performance.now();
      expect(await waiting).toMatchObject({ status: 503, body: { error: { code: 'TURNOUT_CLOSED' } } });
      expect(['refused', 503]).toContain(await tryNew(server));
      expect(server.child.exitCode).toBeNull();
      const [text, streamed] = await Promise.all([whole, stream]);
      expect(text).toHaveLength(120);
      expect(streamed).toBe(text);
      expect(await server.ended).toEqual({ code: 0, signal: null, err: '' });
      // Clients keep their connections: these must not use the grace time up.
      expect(performance.now() - told).toBeLessThan(12_000);
    },
  );

  it('cuts requests off that need longer than the grace time', async () => {
    const server = await startServe(['--grace', '300']);
    const all = [server.complete(PROMPT, 1900), readStream(server, 1900)].map((call) =>
      call.then(
        () => 'done',
        () => 'cut',
      ),
    );
    await untilRunning(server, 2);
    server.child.kill('SIGTERM');
    expect(await Promise.all(all)).toEqual(['cut', 'cut']);
    expect(await server.ended).toEqual({ code: 0, signal: null, err: '' });
  });

  it('ends at once at the second signal, in the midst of a computation', async () => {
    const server = await startServe(['--backend', 'threads']);
    const call = server.complete(PROMPT, 1900).catch(() => 'cut');
    await untilRunning(server, 1);
    server.child.kill('SIGTERM');
    await sleep(100);
    server.child.kill('SIGTERM');
    expect(await server.ended).toEqual({ code: 130, signal: null, err: '' });
    expect(await call).toBe('cut');
  });

  it('says where it listens, takes the key of its environment, and at the end lets go of streams of events', async () => {
    const key = 'a-key-from-the-environment';
    const server = await startServe([], { TURNOUT_API_KEY: key });
    expect(server.banner).toMatch(
      /^turnout serves babel on http:\/\/127\.0\.0\.1:\d+ \(dashboard\), .*\/docs \(endpoints\)$/,
    );
    const follow = () => server.fetch('/v1/routing/events', undefined, { key });
    const agents = await Promise.all([1, 2, 3].map(follow));
    expect((await server.ask('/v1/models')).status).toBe(401);
    expect((await server.ask('/v1/models', undefined, { key })).body.data[0].id).toBe('babel');
    server.child.kill('SIGTERM');
    const told = performance.now();
    expect(await server.ended).toEqual({ code: 0, signal: null, err: '' });
    expect(performance.now() - told).toBeLessThan(10_000);
    for (const events of agents) expect(await events.text()).toContain('event: status');
  });

  it.each([
    [
      'a port that is taken',
      async () => ['--port', String(await takenPort())],
      /cannot listen on 127\.0\.0\.1, port \d+: the port is taken/,
    ],
    [
      'an address of another machine',
      async () => ['--host', '192.0.2.1', '--public-without-key', '--port', '0'],
      /no such address/,
    ],
    ['a limit that is none', async () => ['--running', '0'], /running: expected a whole number from 1/],
    ['a package that is not there', async () => ['nowhere'], /TURNOUT_\w+: .*nowhere/],
  ])('says in a line what is wrong, and fails: %s', async (_, flags, message) => {
    const { code, out, err } = await turnout(['serve', ...(await flags())], '', { TURNOUT_API_KEY: '' });
    expect({ code, out }).toEqual({ code: 1, out: '' });
    expect(err).toMatch(message);
    expect(err).toMatch(/^TURNOUT_/m);
    expect(err).not.toMatch(/^\s+at /m);
  });
});

/** A port of 127.0.0.1 that somebody has until the end of the process. */
async function takenPort(): Promise<number> {
  const other = createServer().listen(0, '127.0.0.1').unref();
  await once(other, 'listening');
  return (other.address() as { port: number }).port;
}

describe.runIf(process.platform === 'linux')('turnout serve with processes', { timeout: 60_000 }, () => {
  const FLAGS = ['--backend', 'processes', '--devices', 'cpu,cpu', '--one-process-per', 'device'];

  it.each(['SIGTERM', 'SIGKILL'] as const)('leaves none of them after %s', async (signal) => {
    const mark = `TURNOUT_TEST=${crypto.randomUUID()}`;
    const server = await startServe(FLAGS, { TURNOUT_TEST: mark.split('=')[1]! });
    expect(processesWith(mark)).toHaveLength(3);
    const call = server.complete(PROMPT, 60).catch(() => 'cut');
    await untilRunning(server, 1);
    server.child.kill(signal);
    const { code } = await server.ended;
    expect(code).toBe(signal === 'SIGTERM' ? 0 : null);
    expect(await call).toHaveLength(signal === 'SIGTERM' ? 60 : 3);
    await vi.waitFor(() => expect(processesWith(mark)).toEqual([]), 5000);
  });
});

describe('serve in a program', { timeout: 30_000 }, () => {
  it('closes once, however often it is asked to, and tells when its engine has died', async () => {
    const own = await serverForTest();
    await Promise.all([own.server.close(), own.server.close()]);
    await expect(own.fetch('/v1/models')).rejects.toThrow();
    const dead = await Promise.race([own.server.failed.then(() => 'failed'), sleep(50, 'fine')]);
    expect(dead).toBe('fine');
  });

  it('serves two packages in one program, each with numbers of its own', async () => {
    const [one, two] = await Promise.all([serverForTest(), serverForTest()]);
    await one.complete(PROMPT, 3);
    expect((await one.status()).engine.steps).toBeGreaterThan(0);
    expect((await two.status()).engine.steps).toBe(0);
    const text = async (of: Client) => (await of.ask('/metrics')).body as string;
    expect(await text(one)).toMatch(/turnout_generation_tokens_total\{model_name="babel"\} 3/);
    expect(await text(two)).not.toMatch(/turnout_generation_tokens_total\{/);
  });

  it('fails all requests when its engine dies, and says so', async () => {
    const started = once(process, 'worker');
    const own = await serverForTest();
    const [worker] = await started;
    const call = own.ask('/v1/completions', greedy(PROMPT, 1900));
    await untilRunning(own, 1);
    worker.postMessage(null);
    expect(await call).toMatchObject({ status: 503, body: { error: { code: 'TURNOUT_CLOSED' } } });
    expect(await own.server.failed).toMatchObject({ code: 'TURNOUT_CLOSED' });
    expect((await own.ask('/v1/completions', greedy(PROMPT, 1))).status).toBe(503);
    expect((await own.ask('/metrics')).body).toContain('turnout_engine_up 0');
  });
});
