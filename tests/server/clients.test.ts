import { once } from 'node:events';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import Fastify from 'fastify';
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { deferred } from '#turnout/experts/deferred.js';
import { EventStream } from '#turnout/server/event-stream.js';
import { greedy, openServer, serverForTest } from '../support/server.js';

type Opened = Awaited<ReturnType<typeof openServer>>;
let client: Opened;
beforeAll(async () => {
  client = await openServer({ running: 2, stallMs: 600, readMs: 1200 });
});
afterAll(() => client.server.close());

const LONG = greedy('In the ', 1900);
const post = (body: object, path = '/v1/completions', length?: number) => {
  const text = JSON.stringify(body);
  const head = `POST ${path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n`;
  return `${head}content-length: ${length ?? Buffer.byteLength(text)}\r\n\r\n${text}`;
};

/** A connection of its own, of whose end nothing is expected. */
async function connection({ port }: Opened): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => {});
  await once(socket, 'connect');
  return socket;
}

const counts = async (of: Opened) => {
  const { admission, engine } = await of.status();
  return [admission.running, admission.waiting, engine.running];
};
const until = (of: Opened, expected: number[]) =>
  vi.waitFor(async () => expect(await counts(of)).toEqual(expected), { timeout: 10_000, interval: 20 });

/** Once it runs, or waits, `end` is called; then nothing is left of it within a few steps. */
async function leavesNothing(running: number[], end: () => void): Promise<void> {
  await until(client, running);
  const { engine: before } = await client.status();
  end();
  await until(client, [0, 0, 0]);
  const { engine: after } = await client.status();
  // Some steps may pass until the connection is seen to end on a busy machine, never the 1,900 of the request.
  expect(after.steps - before.steps).toBeLessThan(200);
  expect(after.cache.used).toBe(0);
}

describe('clients that vanish', { timeout: 30_000 }, () => {
  it('in mid-body: nothing begins', async () => {
    const socket = await connection(client);
    socket.write(post(LONG, '/v1/completions', 5000));
    await sleep(50);
    socket.destroy();
    await sleep(50);
    expect(await counts(client)).toEqual([0, 0, 0]);
  });

  it.each([
    ['while it computes', '/v1/completions', LONG],
    ['in mid-stream', '/v1/completions', { ...LONG, stream: true }],
    ['with several sequences', '/v1/completions', { ...LONG, max_tokens: 900, n: 2 }],
    ['while a text is traced', '/v1/routing/trace', { text: 'a', max_tokens: 500, seed: 3 }],
  ])('%s: their places are free', async (_, path, body) => {
    const socket = await connection(client);
    socket.write(post(body, path));
    const sequences = 'n' in body ? 2 : 1;
    await leavesNothing([sequences, 0, sequences], () => socket.destroy());
  });

  it('behind another request of the same connection', async () => {
    const socket = await connection(client);
    socket.write(post(LONG) + post({ ...LONG, prompt: 'And ' }));
    await leavesNothing([2, 0, 2], () => socket.destroy());
  });

  it('while they wait', async () => {
    const sockets = await Promise.all([1, 2, 3, 4].map(() => connection(client)));
    for (const socket of sockets) socket.write(post(LONG));
    await until(client, [2, 2, 2]);
    for (const socket of sockets.slice(2)) socket.destroy();
    await until(client, [2, 0, 2]);
    await leavesNothing([2, 0, 2], () => {
      for (const socket of sockets) socket.destroy();
    });
  });

  it('at random moments, many of them: those who stay get their text', async () => {
    const expected = await client.complete('In the ', 12);
    const leaving = Array.from({ length: 40 }, async (_, i) => {
      const socket = await connection(client);
      const text = post({ ...LONG, stream: i % 2 === 0 });
      socket.write(text.slice(0, i % 3 === 0 ? text.length / 2 : text.length));
      await sleep((i * 37) % 300);
      socket.destroy();
    });
    const staying = Array.from({ length: 6 }, () => client.complete('In the ', 12));
    expect(await Promise.all(staying)).toEqual(staying.map(() => expected));
    await Promise.all(leaving);
    await until(client, [0, 0, 0]);
  });
});

/** Milliseconds until a connection ends. */
async function untilClosed(socket: Socket): Promise<number> {
  const started = performance.now();
  if (!socket.closed) await once(socket, 'close');
  return performance.now() - started;
}

describe('bodies', { timeout: 20_000 }, () => {
  it('of all clients together are bounded: those above the bound are told to come back', async () => {
    const own = await serverForTest({ bodyLimit: 65_536, jsonLimit: 65_536 });
    const short = { ...greedy('In the ', 1), user: 'x'.repeat(60_000) };
    const answered = async () => {
      const { status, headers } = await own.ask('/v1/completions', short);
      if (status === 429) expect(Number(headers.get('retry-after'))).toBeGreaterThan(0);
      return status;
    };
    expect(await answered()).toBe(200);
    const sockets = await Promise.all(Array.from({ length: 8 }, () => connection(own)));
    for (const socket of sockets) socket.write(post(LONG, '/v1/completions', 65_000));
    // Each of these must come before the next that could take its room.
    await sleep(500);
    expect(await answered()).toBe(429);
    // Small ones are let in all the same.
    expect(await own.complete('In the ', 1)).toHaveLength(1);
    for (const socket of sockets) socket.destroy();
    await vi.waitFor(async () => expect(await answered()).toBe(200), 5000);
    // What is over is not counted any more, also behind another request of a connection that ends.
    for (let i = 0; i < 10; i++) {
      const socket = await connection(own);
      socket.write(post({ ...LONG, ...short }) + post({ ...LONG, ...short }));
      await sleep(10);
      socket.destroy();
    }
    await vi.waitFor(async () => expect(await answered()).toBe(200), 5000);
    await until(own, [0, 0, 0]);
  });
});

describe('slow clients', { timeout: 30_000 }, () => {
  it.each([
    ['no byte', ''],
    ['headers without an end', 'GET /v1/models HTTP/1.1\r\nhost: localhost\r\nx-a: '],
    ['a body without an end', post(LONG, '/v1/completions', 5000)],
  ])('that send %s are cut off after the time for a request', async (_, bytes) => {
    const socket = await connection(client);
    socket.resume();
    socket.write(bytes);
    const dripping = setInterval(() => bytes !== '' && socket.write('a'), 100);
    const ms = await untilClosed(socket);
    clearInterval(dripping);
    expect(ms).toBeGreaterThan(300);
    expect(ms).toBeLessThan(5000);
  });

  it('that read nothing of a stream hold nobody up', async () => {
    const socket = await connection(client);
    socket.pause();
    socket.write(post({ ...greedy('In the ', 60), logprobs: 20, stream: true }));
    await until(client, [1, 0, 1]);
    expect(await client.complete('In the ', 3)).toHaveLength(3);
    await until(client, [0, 0, 0]);
    socket.destroy();
  });

  it('that take one answer may wait for the next as long as it computes', async () => {
    const socket = await connection(client);
    socket.write(
      post(greedy('In the ', 1)) +
        post(greedy('In the ', 2000)) +
        post({ ...greedy('In the ', 20), stream: true }),
    );
    let text = '';
    socket.on('data', (part) => {
      text += part;
    });
    const started = performance.now();
    await vi.waitFor(() => expect(text).toContain('[DONE]'), { timeout: 15_000, interval: 20 });
    expect(text.match(/HTTP\/1.1 200/g)).toHaveLength(3);
    // Longer than a client may take nothing of an answer that is there.
    expect(performance.now() - started).toBeGreaterThan(650);
    socket.destroy();
  });

  it('that read nothing of many answers are cut off', async () => {
    const page = (await client.ask('/docs/openapi.json')).body;
    const count = Math.ceil(40e6 / JSON.stringify(page).length);
    const socket = await connection(client);
    socket.pause();
    socket.write('GET /docs/openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n'.repeat(count));
    await sleep(3000);
    let bytes = 0;
    socket.on('data', (part) => {
      bytes += part.length;
    });
    socket.resume();
    await untilClosed(socket);
    expect(bytes).toBeGreaterThan(0);
    // What the system held of it, and no more.
    expect(bytes).toBeLessThan(30e6);
  });
});

/** A server whose only answer is an event stream. */
async function eventServer(stallMs: number) {
  const app = Fastify();
  const started = deferred<EventStream>();
  app.get('/', (_, reply) => started.resolve(new EventStream(reply, stallMs)));
  await app.listen({ port: 0, host: '127.0.0.1' });
  onTestFinished(() => {
    app.server.closeAllConnections();
    return app.close();
  });
  const socket = connect((app.server.address() as AddressInfo).port, '127.0.0.1');
  socket.on('error', () => {});
  socket.write('GET / HTTP/1.1\r\nhost: localhost\r\n\r\n');
  socket.pause();
  return { socket, stream: await started.promise };
}

const KB = 'x'.repeat(1000);

describe('an event stream', { timeout: 30_000 }, () => {
  it('is cut off when its client takes nothing for a while, not before', async () => {
    const { stream } = await eventServer(500);
    const started = performance.now();
    while (!stream.closed) {
      for (let i = 0; i < 100; i++) stream.send(KB);
      await sleep(20);
    }
    expect(performance.now() - started).toBeGreaterThan(450);
  });

  it('is cut off at once where too much waits: its memory is bounded', async () => {
    const { stream } = await eventServer(600_000);
    let sent = 0;
    while (!stream.closed && sent < 100e6) {
      stream.send(KB);
      sent += 1000;
      if (sent % 1e6 === 0) await sleep(1);
    }
    expect(stream.closed).toBe(true);
    expect(sent).toBeGreaterThan(8e6);
    expect(sent).toBeLessThan(30e6);
  });

  it('waits for a client that reads slowly', async () => {
    const { stream, socket } = await eventServer(1200);
    const EVENTS = 7000;
    for (let i = 0; i < EVENTS; i++) stream.send(KB);
    stream.end();
    const all = EVENTS * 1008;
    let bytes = 0;
    const started = performance.now();
    while (!socket.readableEnded && !socket.destroyed && bytes < all) {
      bytes += ((socket.read() as Buffer | null) ?? '').length;
      await sleep(30);
    }
    expect(bytes).toBeGreaterThanOrEqual(all);
    expect(performance.now() - started).toBeGreaterThan(1500);
  });

  it('ends for a client that has taken all, and takes no more', async () => {
    const { stream, socket } = await eventServer(300);
    stream.send('one', 'kind');
    stream.end();
    stream.send('two');
    const all = await new Promise<string>((resolve) => {
      let text = '';
      socket.on('data', (part) => {
        text += part;
        if (text.endsWith('0\r\n\r\n')) resolve(text);
      });
      socket.resume();
    });
    expect(all).toContain('event: kind\ndata: one\n\n');
    expect(all).not.toContain('two');
  });
});
