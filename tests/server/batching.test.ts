import parsePrometheus from 'parse-prometheus-text-format';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { greedy, openServer, serverForTest } from '../support/server.js';

type Opened = Awaited<ReturnType<typeof openServer>>;
let client: Opened;
beforeAll(async () => {
  client = await openServer();
});
afterAll(() => client.server.close());

const PROMPTS = [
  'In the beginning ',
  'def read(path):\n',
  '#include <stdio.h>\n',
  'Die Datei ',
  'ファイルを',
  'x',
];

const stepsOf = async (of: Opened) => (await of.status()).engine.steps as number;

/** Steps with more than one row, as /metrics counts them. */
async function sharedSteps(of: Opened): Promise<number> {
  const families = parsePrometheus((await of.ask('/metrics')).body);
  const [rows] = families.find(({ name }) => name === 'turnout_step_rows')!.metrics;
  const { buckets, count } = rows as unknown as { buckets: Record<string, string>; count: string };
  return Number(count) - Number(buckets[1]);
}

const until = (of: Opened, running: number, waiting = 0) =>
  vi.waitFor(
    async () => {
      const { admission } = await of.status();
      expect([admission.running, admission.waiting]).toEqual([running, waiting]);
    },
    { timeout: 10_000, interval: 10 },
  );

describe('continuous batching', { timeout: 30_000 }, () => {
  it('gives every request the text that it has alone, whatever the company', async () => {
    const alone: string[] = [];
    for (const prompt of PROMPTS) alone.push(await client.complete(prompt, 24));
    const [steps, shared] = [await stepsOf(client), await sharedSteps(client)];
    const together = await Promise.all(PROMPTS.map((prompt) => client.complete(prompt, 24)));
    expect(together).toEqual(alone);
    // Six at a time: far fewer steps than the tokens of all.
    expect((await stepsOf(client)) - steps).toBeLessThan(6 * 24 * 0.7);
    expect((await sharedSteps(client)) - shared).toBeGreaterThan(10);
  });

  it('lets requests join those that run, and leave before them', async () => {
    const long = client.complete('In the ', 300).then(() => 'long');
    await until(client, 1);
    const shared = await sharedSteps(client);
    const short = client.complete('And ', 5).then(() => 'short');
    expect(await Promise.race([long, short])).toBe('short');
    expect(await sharedSteps(client)).toBeGreaterThan(shared);
    expect((await client.status()).admission.running).toBe(1);
    await long;
  });

  it('takes long prompts in chunks, beside the tokens of others', async () => {
    const own = await serverForTest({}, { engine: { chunkRows: 32 } });
    const tokens: number[] = [];
    const streaming = (async () => {
      for await (const _ of own.stream('/v1/completions', greedy('In the ', 120)))
        tokens.push(performance.now());
    })();
    await vi.waitFor(() => expect(tokens.length).toBeGreaterThan(5), 5000);
    const before = tokens.length;
    const prompt = 'In the beginning God created the heaven and the earth. '.repeat(20);
    await own.complete(prompt, 1);
    const between = tokens.length - before;
    // 1,101 tokens in chunks of 32 beside a stream: nearly each step brings it a token.
    expect(between).toBeGreaterThan(20);
    await streaming;
    expect(await own.complete(prompt, 8)).toBe(await client.complete(prompt, 8));
  });

  it('lets the more urgent in first, then those who came first', async () => {
    const own = await serverForTest({ running: 1 });
    const first = own.complete('In the ', 40);
    await until(own, 1);
    const order: string[] = [];
    const ask = async (name: string, priority?: number) => {
      const waiting = (await own.status()).admission.waiting as number;
      const done = own
        .complete('And ', 1, priority === undefined ? {} : { priority })
        .then(() => order.push(name));
      await until(own, 1, waiting + 1);
      return { done };
    };
    const all = [
      await ask('last', 5),
      await ask('default'),
      await ask('default, later', 0),
      await ask('first', 1),
    ];
    await Promise.all([first, ...all.map(({ done }) => done)]);
    expect(order).toEqual(['first', 'default', 'default, later', 'last']);
  });

  it('ends requests whose time is up, queued or running, whole or streamed', async () => {
    const own = await serverForTest({ running: 1 });
    const running = own.ask('/v1/completions', greedy('In the ', 1900, { timeout_ms: 250 }));
    await until(own, 1);
    const queued = own.ask('/v1/completions', greedy('In the ', 5, { timeout_ms: 60 }));
    for (const late of [await queued, await running]) {
      expect(late).toMatchObject({
        status: 504,
        body: { error: { code: 'TURNOUT_DEADLINE_EXCEEDED', type: 'server_error' } },
      });
    }
    const events: string[] = [];
    for await (const event of own.stream('/v1/completions', greedy('In the ', 1900, { timeout_ms: 250 })))
      events.push(event);
    expect(events.length).toBeGreaterThan(2);
    expect(JSON.parse(events.at(-1)!).error.code).toBe('TURNOUT_DEADLINE_EXCEEDED');
    await until(own, 0);
    // The step under way may still have had it.
    await vi.waitFor(async () => expect((await own.status()).engine.cache.used).toBe(0), 5000);
  });

  it('counts cache blocks at admission: what can never fit is refused, what fits later waits', async () => {
    const own = await serverForTest({ queueDelayMs: 20_000 }, { engine: { cacheBlocks: 4 } });
    const never = await own.ask('/v1/completions', greedy('In the ', 300));
    expect(never).toMatchObject({ status: 400, body: { error: { code: 'TURNOUT_CACHE_EXCEEDED' } } });
    // Three blocks of 64 positions each: one at a time.
    const all = [1, 2, 3].map(() => own.complete('In the ', 130));
    await until(own, 1, 2);
    expect(new Set(await Promise.all(all)).size).toBe(1);
    const small = await Promise.all([1, 2, 3, 4].map(() => own.complete('In the ', 40)));
    expect(new Set(small).size).toBe(1);
  });

  it.each([
    ['more sequences than run at once', greedy('a', 1, { n: 65 }), 413, 'TURNOUT_REQUEST_TOO_LARGE'],
    ['more tokens than the context has', greedy('a', 2047), 400, 'TURNOUT_CONTEXT_EXCEEDED'],
  ])('refuses what can never run: %s', async (_, body, status, code) => {
    expect(await client.ask('/v1/completions', body)).toMatchObject({ status, body: { error: { code } } });
  });
});

describe('overload', { timeout: 60_000 }, () => {
  it('brings 200, 429 and 503 alone, told when to come back, and full speed afterwards', async () => {
    const own = await serverForTest({ running: 4, queue: 6, queueDelayMs: 250 });
    const timed = async () => {
      const started = performance.now();
      const texts = await Promise.all([1, 2, 3, 4].map(() => own.complete('In the ', 20)));
      return { ms: performance.now() - started, text: texts[0] };
    };
    await timed();
    const before = await timed();
    const statuses: number[] = [];
    const refusals: number[] = [];
    const client = async () => {
      for (let i = 0; i < 4; i++) {
        const started = performance.now();
        const { status, headers, body } = await own.ask('/v1/completions', greedy('In the ', 20));
        statuses.push(status);
        if (status === 200) expect(body.choices[0].text).toBe(before.text);
        else expect(Number(headers.get('retry-after'))).toBeGreaterThan(0);
        if (status === 429) refusals.push(performance.now() - started);
      }
    };
    await Promise.all(Array.from({ length: 50 }, client));
    expect([...new Set(statuses)].filter((status) => ![200, 429, 503].includes(status))).toEqual([]);
    expect(statuses.filter((status) => status === 200).length).toBeGreaterThan(8);
    expect(refusals.length).toBeGreaterThan(100);
    await until(own, 0);
    const after = await timed();
    expect(after.text).toBe(before.text);
    expect(after.ms).toBeLessThan(4 * before.ms + 200);
    const metrics = (await own.ask('/metrics')).body as string;
    expect(metrics).toMatch(/turnout_requests_refused_total\{reason="TURNOUT_OVERLOADED"\} \d+/);
  });
});
