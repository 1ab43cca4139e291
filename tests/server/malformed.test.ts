import { Agent, request } from 'node:http';
import { text } from 'node:stream/consumers';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ERROR_CODES } from '#turnout/errors.js';
import { presetNames } from '#turnout/router/presets.js';
import { type Malformed, malformed } from '../support/malformed.js';
import { openServer } from '../support/server.js';

const BODIES = 10_500;
const AT_ONCE = 12;

let client: Awaited<ReturnType<typeof openServer>>;
beforeAll(async () => {
  client = await openServer();
});
afterAll(() => client.server.close());

const agent = new Agent({ keepAlive: true, maxSockets: AT_ONCE });
afterAll(() => agent.destroy());

function post({ path, type, body }: Malformed): Promise<{ status: number; type: string; body: string }> {
  const headers = { 'content-length': body.length, ...(type !== undefined && { 'content-type': type }) };
  return new Promise((resolve, reject) => {
    const asking = request({ agent, port: client.port, method: 'POST', path, headers }, async (response) => {
      const { statusCode, headers: answered } = response;
      resolve({ status: statusCode!, type: answered['content-type'] ?? '', body: await text(response) });
    });
    asking.on('error', reject);
    asking.end(body);
  });
}

/** What is wrong with the answer to a malformed body, if anything. */
function complaint({ status, type, body }: Awaited<ReturnType<typeof post>>): string | undefined {
  if (status < 400 || status > 499) return `status ${status}`;
  if (!type.startsWith('application/json')) return `content type ${type}`;
  const { error, ...others } = JSON.parse(body);
  if (Object.keys(others).length > 0) return `more than an error: ${Object.keys(others)}`;
  if (!(error.code in ERROR_CODES)) return `code ${error.code}`;
  if (Object.keys(error).sort().join() !== 'code,message,param,type') return `fields ${Object.keys(error)}`;
  if (!/_error$/.test(error.type)) return `type ${error.type}`;
  const clear =
    /^.{15,400}$/s.test(error.message) &&
    !/undefined|object Object|TypeError|Cannot read/.test(error.message);
  return clear ? undefined : `message ${error.message}`;
}

describe('malformed bodies', () => {
  it(`${BODIES} of them: each gets a 4xx that says what is wrong, and the server goes on`, {
    timeout: 60_000,
  }, async () => {
    const bodies = fc.sample(malformed, BODIES);
    const wrong: string[] = [];
    const counts: Record<string, number> = {};
    let next = 0;
    const worker = async () => {
      while (next < bodies.length && wrong.length < 20) {
        const one = bodies[next++]!;
        const answered = await post(one);
        counts[one.kind] = (counts[one.kind] ?? 0) + 1;
        const why = complaint(answered);
        if (why)
          wrong.push(
            `${one.kind} at ${one.path}: ${why}: ${one.body.toString('latin1').slice(0, 200)} -> ${answered.body.slice(0, 200)}`,
          );
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
    expect(wrong).toEqual([]);
    expect(next).toBe(BODIES);
    expect(Object.keys(counts)).toHaveLength(9);
    expect((await client.status()).admission).toMatchObject({ running: 0, waiting: 0 });
    expect(await client.complete('In the ', 5)).toHaveLength(5);
  });

  it('with a long list of wrong values hold nobody up', async () => {
    const lists = [
      new Array(300_000).fill(-1),
      new Array(250_000).fill('x'),
      [...new Array(400_000).fill(1), -1],
    ];
    for (const prompt of lists) {
      const answering = client.ask('/v1/completions', { prompt });
      const other = client.ask('/v1/models');
      const started = performance.now();
      expect((await other).status).toBe(200);
      const { status, body } = await answering;
      expect([status, body.error.code]).toEqual([400, 'TURNOUT_REQUEST_INVALID']);
      // It was 18 s before the lists were looked at no further than needed.
      expect(performance.now() - started).toBeLessThan(3000);
    }
  });

  it('are the rules that do not fit: each preset is applied or refused', async () => {
    const rules = presetNames.flatMap((preset) =>
      [undefined, 8].flatMap((k) =>
        [undefined, 0.5].map((capacity_factor) => ({ preset, k, capacity_factor })),
      ),
    );
    const statuses = new Set<number>();
    for (const router of rules) {
      const { status, body } = await client.ask('/v1/routing/trace', { text: 'In', router });
      statuses.add(status);
      if (status !== 200)
        expect([router, status, body.error.code]).toEqual([router, 400, expect.any(String)]);
    }
    expect([...statuses].sort()).toEqual([200, 400]);
  });

  it('name the field that is wrong, and what it may be', async () => {
    const ask = async (body: object) => (await client.ask('/v1/completions', body)).body.error;
    expect(await ask({ prompt: 'a', n: 'x' })).toEqual({
      message: 'body: at /n: must be integer or must be null, got "x"',
      type: 'invalid_request_error',
      param: 'n',
      code: 'TURNOUT_REQUEST_INVALID',
    });
    expect(await ask({ prompt: 'a', promt: 'b' })).toMatchObject({
      param: 'promt',
      message: expect.stringContaining('no such field'),
    });
    expect(await ask({ prompt: ['a', 5] })).toMatchObject({
      param: 'prompt.1',
      message: expect.stringContaining('/prompt/1'),
    });
    expect(await ask({})).toMatchObject({ param: null, message: expect.stringContaining('prompt') });
  });
});
