import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from './client.js';
import { completionBody } from './completion.js';

export interface OpenSpec {
  readonly perSecond: number;
  readonly ms: number;
  readonly prompts: readonly string[];
  readonly tokens: number;
}

export interface OpenFigure {
  readonly offered: number;
  /** Milliseconds of each answer, and of each refusal. */
  readonly admittedMs: readonly number[];
  readonly refusedMs: readonly number[];
  readonly refusedWithoutRetryAfter: number;
  /** How often each status came; 0 stands for a connection that failed. */
  readonly statuses: Readonly<Record<number, number>>;
  /** Asks made a second: a generator that cannot keep up makes fewer than it should. */
  readonly madePerSecond: number;
}

/** Milliseconds between two turns; each makes the asks that are due. */
const TURN_MS = 5;

/** Asks evenly at a rate, whatever the answers, and waits for the last one. */
export async function openLoop(
  client: Client,
  { perSecond, ms, prompts, tokens }: OpenSpec,
): Promise<OpenFigure> {
  const admittedMs: number[] = [];
  const refusedMs: number[] = [];
  const statuses: Record<number, number> = {};
  let refusedWithoutRetryAfter = 0;
  const ask = async (number: number) => {
    const body = completionBody({ prompt: prompts[number % prompts.length]!, tokens, stream: false });
    const answer = await client.ask({ path: '/v1/completions', body }).catch(() => undefined);
    const status = answer?.status ?? 0;
    statuses[status] = (statuses[status] ?? 0) + 1;
    if (status === 200) admittedMs.push(answer!.ms);
    if (status !== 429 && status !== 503) return;
    refusedMs.push(answer!.ms);
    if (!answer!.headers['retry-after']) refusedWithoutRetryAfter++;
  };
  const asks: Promise<void>[] = [];
  const begin = performance.now();
  for (let now = begin; now < begin + ms; now = performance.now()) {
    const due = ((now - begin) * perSecond) / 1000;
    while (asks.length < due) asks.push(ask(asks.length));
    await sleep(TURN_MS);
  }
  const madePerSecond = (asks.length * 1000) / (performance.now() - begin);
  await Promise.all(asks);
  return { offered: asks.length, admittedMs, refusedMs, refusedWithoutRetryAfter, statuses, madePerSecond };
}
