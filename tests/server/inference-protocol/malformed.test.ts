import { Agent, request } from 'node:http';
import { buffer } from 'node:stream/consumers';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Server, serve } from '#turnout/server/serve.js';
import { BABEL } from '../../support/babel.js';
import { flipped, isValid, type Sent, valid } from '../../support/infer-requests.js';
import { malformed } from '../../support/malformed-requests.js';

/** Malformed bodies that a run sends. */
const RUNS = 10_000;
const LIMIT_MS = 120_000;

const agent = new Agent({ keepAlive: true, maxSockets: 1 });
let server: Server;

beforeAll(async () => {
  server = await serve(BABEL, { backend: 'inline', server: { port: 0 } });
});
afterAll(async () => {
  agent.destroy();
  await server.close();
});

/** Sends over a real socket that is used again and again: a server that loses its place in one request fails the next. */
async function send({ path, headers, body }: Sent): Promise<{ status: number; body: Buffer }> {
  return new Promise((resolve, reject) => {
    const options = {
      agent,
      port: new URL(server.url).port,
      path,
      method: 'POST',
      headers: { ...headers, 'content-length': body.length },
    };
    const sending = request(options, (answer) => {
      buffer(answer).then((bytes) => resolve({ status: answer.statusCode!, body: bytes }), reject);
    });
    sending.on('error', reject);
    sending.end(body);
  });
}

function expectRefusal({ status, body }: Awaited<ReturnType<typeof send>>): void {
  expect(status).toBeGreaterThanOrEqual(400);
  expect(status).toBeLessThan(500);
  expect(JSON.parse(body.toString())).toEqual({ error: expect.stringMatching(/^TURNOUT_[A-Z_]+: .{10,}/s) });
  expect(body.length).toBeLessThan(2000);
}

describe('whatever body comes', () => {
  it(`${RUNS} malformed ones get an error of theirs, with a message`, { timeout: LIMIT_MS }, async () => {
    const property = fc.asyncProperty(malformed, async (sent) => expectRefusal(await send(sent)));
    await fc.assert(property, { numRuns: RUNS });
  });

  it('those that one byte was changed in get an answer where they are valid still, else an error', {
    timeout: LIMIT_MS,
  }, async () => {
    const property = fc.asyncProperty(flipped, async (sent) => {
      const answer = await send(sent);
      if (isValid(sent)) expect(answer.status).toBe(200);
      else expectRefusal(answer);
    });
    await fc.assert(property, { numRuns: 1000 });
  });

  it('and valid ones get an answer, now as before', { timeout: LIMIT_MS }, async () => {
    const property = fc.asyncProperty(valid, async (sent) => {
      expect((await send(sent)).status).toBe(200);
    });
    await fc.assert(property, { numRuns: 50 });
    expect(Object.keys(Object.prototype)).toEqual([]);
  });
});
