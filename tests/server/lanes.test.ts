import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it, vi } from 'vitest';
import { childrenOf, signal } from '../support/processes.js';
import { type Answered, greedy, openServer, serverForTest } from '../support/server.js';

const PROMPTS = ['In the beginning ', 'def read(path):\n', 'Die Datei ', '#include <st'];
const TOKENS = 16;
const LANES = { backend: 'processes', devices: ['cpu', 'cpu'], oneProcessPer: 'device' } as const;

type Opened = Awaited<ReturnType<typeof openServer>>;

const lanesOf = async (of: Opened) => (await of.server.engine.snapshot()).lanes;
const threads = () => readdirSync('/proc/self/task').length;

/** What this process has open, without the connections of HTTP: clients of this test keep them for a while. */
function descriptors(): number {
  const connections = new Set(
    readFileSync('/proc/self/net/tcp', 'utf8')
      .split('\n')
      .map((line) => `socket:[${line.trim().split(/\s+/)[9]}]`),
  );
  const links = readdirSync('/proc/self/fd').map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return undefined;
    }
  });
  return links.filter((link) => link !== undefined && !connections.has(link)).length;
}

const held = () => ({
  descriptors: descriptors(),
  threads: threads(),
  children: childrenOf(process.pid).length,
});

async function allReady(of: Opened): Promise<void> {
  await vi.waitFor(
    async () => {
      for (const { lane, state } of await lanesOf(of)) expect([lane, state]).toEqual([lane, 'ready']);
    },
    { timeout: 20_000, interval: 20 },
  );
}

/** Kills or stops a lane every now and then, always the same way, until `over`. */
async function faults(of: Opened, over: AbortSignal): Promise<number> {
  let count = 0;
  for (; !over.aborted; count++) {
    const lanes = await lanesOf(of);
    const pid = lanes[count % lanes.length]!.process?.pid;
    if (pid !== undefined) signal(pid, count % 4 === 3 ? 'SIGSTOP' : 'SIGKILL');
    await sleep(60 + ((count * 53) % 240));
  }
  return count;
}

interface Sent {
  readonly prompt: string;
  readonly answered: Answered;
}

/** Requests one after the other for a while. */
async function load(of: Opened, index: number, until: number): Promise<Sent[]> {
  const answers: Sent[] = [];
  while (performance.now() < until) {
    const prompt = PROMPTS[(index + answers.length) % PROMPTS.length]!;
    answers.push({ prompt, answered: await of.ask('/v1/completions', greedy(prompt, TOKENS)) });
  }
  return answers;
}

describe.runIf(process.platform === 'linux')('lanes that are killed and stopped', { timeout: 90_000 }, () => {
  it('at random under load: right text or a clear error, nothing hangs, nothing is left', async () => {
    const inline = await serverForTest();
    const texts = new Map<string, string>();
    for (const prompt of PROMPTS) texts.set(prompt, await inline.complete(prompt, TOKENS));

    const own = await openServer({ requestTimeoutMs: 15_000 }, { ...LANES, replicas: 2 });
    for (const [prompt, text] of texts) expect(await own.complete(prompt, TOKENS)).toBe(text);
    await own.complete(PROMPTS[0]!, 1);
    const before = held();

    const over = new AbortController();
    const faulting = faults(own, over.signal);
    const until = performance.now() + 4000;
    const sent = await Promise.all([0, 1, 2, 3, 4, 5].map((index) => load(own, index, until)));
    over.abort();
    expect(await faulting).toBeGreaterThan(6);

    let served = 0;
    for (const { prompt, answered } of sent.flat()) {
      const { status, headers, body } = answered;
      if (status === 200) {
        expect(body.choices[0].text).toBe(texts.get(prompt));
        served++;
        continue;
      }
      expect([503, 504]).toContain(status);
      expect(body.error.code).toMatch(/^TURNOUT_(LANE_DIED|EXPERT_LOST|DEADLINE_EXCEEDED)$/);
      if (status === 503) expect(Number(headers.get('retry-after'))).toBeGreaterThan(0);
    }
    expect(served).toBeGreaterThan(5);

    await allReady(own);
    for (const [prompt, text] of texts) expect(await own.complete(prompt, TOKENS)).toBe(text);
    const { admission, engine, lanes } = await own.status();
    expect([admission.running, admission.waiting, engine.running, engine.cache.used]).toEqual([0, 0, 0, 0]);
    expect(
      lanes.reduce((sum: number, { restarts }: { restarts: number }) => sum + restarts, 0),
    ).toBeGreaterThan(3);
    await vi.waitFor(() => expect(held()).toEqual(before), 10_000);
    await own.server.close();
    expect(childrenOf(process.pid)).toEqual([]);
  });

  it('are found and replaced where the only one is stopped, while the server answers', async () => {
    const own = await serverForTest(
      { requestTimeoutMs: 10_000, graceMs: 3000 },
      { ...LANES, devices: ['cpu'] },
    );
    const [lane] = await lanesOf(own);
    const call = own.ask('/v1/completions', greedy(PROMPTS[0]!, 400));
    await vi.waitFor(async () => expect((await own.status()).engine.running).toBe(1), 5000);
    signal(lane!.process!.pid!, 'SIGSTOP');
    const other = own.ask('/v1/models');
    expect((await other).status).toBe(200);
    // Its rows are computed again, or the request is told of its loss.
    expect([200, 503]).toContain((await call).status);
    await allReady(own);
    expect(await own.complete(PROMPTS[0]!, 3)).toHaveLength(3);
  });
});
