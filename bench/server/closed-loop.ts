import { setMaxListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { deferred } from '../../src/experts/deferred.js';

/** So many clients, each of which asks anew when it is answered. */
export interface LoopSpec {
  readonly clients: number;
  readonly prompts: readonly string[];
  /** Tokens of each answer. */
  readonly tokens: number;
  /** How long it is measured, once every client has had an answer. */
  readonly ms: number;
}

/** What asks are made with. */
export interface LoopParts {
  generate(ask: LoopAsk): Promise<{ readonly firstMs?: number }>;
  counts(): Promise<StepCounts>;
  /** Milliseconds of processor time so far, by name. */
  cpu(): Record<string, number>;
}

export interface LoopAsk {
  readonly text: string;
  readonly maxTokens: number;
  readonly signal: AbortSignal;
}

export interface StepCounts {
  readonly steps: number;
  readonly rows: number;
}

export interface LoopAnswer {
  /** Number of its prompt. */
  readonly prompt: number;
  readonly end: number;
  readonly ms: number;
  readonly firstMs?: number;
}

export interface Reading {
  readonly tokensPerSecond: number;
  readonly answers: readonly LoopAnswer[];
  /** Of the engine: the mean time from step to step, and the rows of one. */
  readonly stepMs: number;
  readonly rowsPerStep: number;
  /** Share of one core that each had. */
  readonly cores: Readonly<Record<string, number>>;
}

/**
 * The first answers differ in length, so that the clients' later ones end evenly spread over time and the rate between the
 * first and the last of them is exact.
 */
export async function closedLoop(spec: LoopSpec, parts: LoopParts): Promise<Reading> {
  const stop = new AbortController();
  setMaxListeners(0, stop.signal);
  const answers: LoopAnswer[] = [];
  const allWarm = deferred<void>();
  let next = 0;
  let warm = 0;
  const client = async (number: number) => {
    const firstTokens = Math.ceil((spec.tokens * (number + 1)) / spec.clients);
    for (let first = true; ; first = false) {
      const prompt = next++ % spec.prompts.length;
      const begin = performance.now();
      const maxTokens = first ? firstTokens : spec.tokens;
      const { firstMs } = await parts.generate({
        text: spec.prompts[prompt]!,
        maxTokens,
        signal: stop.signal,
      });
      const end = performance.now();
      if (!first) answers.push({ prompt, end, ms: end - begin, ...(firstMs !== undefined && { firstMs }) });
      else if (++warm === spec.clients) allWarm.resolve();
    }
  };
  const clients = Array.from({ length: spec.clients }, (_, number) => client(number));
  const failed = Promise.race(clients);
  await Promise.race([allWarm.promise, failed]);
  const read = await during(parts, () => Promise.race([sleep(spec.ms), failed]));
  stop.abort();
  await Promise.allSettled(clients);
  return readingOf(spec, answers, read);
}

interface During {
  readonly from: number;
  readonly to: number;
  readonly counts: StepCounts;
  readonly cpuMs: Readonly<Record<string, number>>;
}

/** What the parts count while `wait` waits. */
async function during(parts: LoopParts, wait: () => Promise<unknown>): Promise<During> {
  const read = async () => ({ counts: await parts.counts(), cpu: parts.cpu(), at: performance.now() });
  const before = await read();
  await wait();
  const after = await read();
  const cpu = Object.entries(after.cpu).map(([name, ms]) => [name, ms - before.cpu[name]!]);
  const steps = after.counts.steps - before.counts.steps;
  const rows = after.counts.rows - before.counts.rows;
  return { from: before.at, to: after.at, counts: { steps, rows }, cpuMs: Object.fromEntries(cpu) };
}

function readingOf(spec: LoopSpec, all: readonly LoopAnswer[], { from, to, counts, cpuMs }: During): Reading {
  const answers = all.filter(({ end }) => end >= from && end <= to);
  if (answers.length < 2)
    throw new Error(`expected two answers at least in ${spec.ms} ms, got ${answers.length}`);
  const spanMs = answers.at(-1)!.end - answers[0]!.end;
  const cores = Object.entries(cpuMs).map(([name, ms]) => [name, ms / (to - from)]);
  return {
    tokensPerSecond: ((answers.length - 1) * spec.tokens * 1000) / spanMs,
    answers,
    stepMs: (to - from) / counts.steps,
    rowsPerStep: counts.rows / counts.steps,
    cores: Object.fromEntries(cores),
  };
}
