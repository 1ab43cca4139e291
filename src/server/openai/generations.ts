import { setMaxListeners } from 'node:events';
import { performance } from 'node:perf_hooks';

import type { GenerateResult, Piece } from '../../model/generate.js';
import { waterfallOf } from '../../model/waterfall.js';
import type { ServerContext } from '../context.js';
import type { FinishedReason } from '../metrics.js';
import { endGeneration, type Span, traceWaterfall } from '../tracing.js';
import { blocksOf, withPlace } from '../work.js';
import type { Job, Prompt } from './job.js';
import { usageOf } from './tokens.js';

/** Who waits for a job. */
export interface JobOwner {
  readonly signal: AbortSignal;
  /** The key that the request came with: recordings are its own. */
  readonly keyNumber: number | undefined;
  /** Of the request; ended with it. */
  readonly span: Span;
}

/** What hears of a job that runs. */
export interface JobListener {
  /** It was admitted: from now on its answer can begin. */
  readonly onStart: () => void;
  /** Text of answer `choice`, as it comes. */
  readonly onPiece: (choice: number, piece: Piece) => void;
  readonly onEnd: (choice: number, result: GenerateResult) => void;
}

/** Runs all sequences of a job together. Where one fails the others are stopped. */
export async function runJob(
  context: ServerContext,
  job: Job,
  owner: JobOwner,
  listener?: JobListener,
): Promise<GenerateResult[]> {
  try {
    const results = await runAll(context, job, owner, listener);
    endGeneration(owner.span, { ...tokensOf(results, job), reason: FINISHED[results[0]!.reason] });
    return results;
  } catch (error) {
    const reason = owner.signal.aborted ? 'abort' : 'error';
    endGeneration(owner.span, { inputTokens: 0, outputTokens: 0, reason, error });
    throw error;
  }
}

async function runAll(
  context: ServerContext,
  job: Job,
  owner: JobOwner,
  listener: JobListener | undefined,
): Promise<GenerateResult[]> {
  const arrived = performance.now();
  const choices = job.prompts.flatMap((prompt) => new Array<Prompt>(job.n).fill(prompt));
  const { context: limit } = context.engine.info.manifest.sizes;
  const lengths = choices.map((prompt) => {
    const tokens = promptTokens(prompt);
    return tokens + (job.maxTokens ?? Math.max(1, limit - tokens));
  });
  const blocks = blocksOf(context, lengths);
  const demand = { sequences: choices.length, blocks, priority: job.priority, timeoutMs: job.timeoutMs };
  return withPlace(context, { ...demand, signal: owner.signal }, async ({ signal, timeoutMs, waitedMs }) => {
    listener?.onStart();
    const failed = new AbortController();
    const stop = AbortSignal.any([signal, failed.signal]);
    // Each sequence listens to it; Node warns of more than ten.
    setMaxListeners(choices.length + 1, stop);
    const limits = { signal: stop, timeoutMs };
    const { experts, weights, drops } = job.routing;
    const record = experts || weights || drops || context.recordings.wants(owner.keyNumber);
    const results = choices.map(async (prompt, choice) => {
      const result = await context.engine.generate(prompt, {
        ...job.sampling,
        ...limits,
        maxTokens: lengths[choice]! - promptTokens(prompt),
        sample: choice % job.n,
        request: choice % job.n,
        record,
        timeline: owner.span.isRecording(),
        ...(listener && { onPiece: (piece) => listener.onPiece(choice, piece) }),
      });
      count(context, result, { waitedMs, arrived });
      context.recordings.add(owner.keyNumber, result);
      const { totalMs } = result.latency;
      traceWaterfall(waterfallOf(result.timeline, totalMs), owner.span, Date.now() - totalMs);
      listener?.onEnd(choice, result);
      return result;
    });
    try {
      return await Promise.all(results);
    } catch (error) {
      failed.abort();
      countFailed(context, owner, { waitedMs, arrived });
      throw error;
    }
  });
}

/** Tokens of a prompt: text is one token a byte, behind the begin token. */
export function promptTokens(prompt: Prompt): number {
  return typeof prompt === 'string' ? 1 + Buffer.byteLength(prompt) : prompt.length;
}

const FINISHED: Readonly<Record<GenerateResult['reason'], FinishedReason>> = {
  'max-tokens': 'length',
  scored: 'length',
  'end-token': 'stop',
  stop: 'stop',
  stopped: 'abort',
};

/** OpenAI's word for why an answer ended. */
export function finishReason({ reason }: GenerateResult): 'stop' | 'length' {
  return FINISHED[reason] === 'stop' ? 'stop' : 'length';
}

function tokensOf(
  results: readonly GenerateResult[],
  { n }: Job,
): { inputTokens: number; outputTokens: number } {
  const usage = usageOf(results, n);
  return { inputTokens: usage.prompt_tokens, outputTokens: usage.completion_tokens };
}

interface Times {
  readonly waitedMs: number;
  /** Of `performance.now()`. */
  readonly arrived: number;
}

/** A request that failed counts once, without tokens: what it had is not known here. */
function countFailed(
  { metrics, engine }: ServerContext,
  { signal }: JobOwner,
  { waitedMs, arrived }: Times,
): void {
  metrics.ended({
    model: engine.info.manifest.name,
    reason: signal.aborted ? 'abort' : 'error',
    promptTokens: 0,
    generatedTokens: 0,
    queueSeconds: waitedMs / 1000,
    totalSeconds: (performance.now() - arrived) / 1000,
  });
}

function count(
  { metrics, engine }: ServerContext,
  { reason, prompt, tokens, latency }: GenerateResult,
  { waitedMs, arrived }: Times,
): void {
  const { firstTokenMs } = latency;
  metrics.ended({
    model: engine.info.manifest.name,
    reason: FINISHED[reason],
    promptTokens: prompt.length,
    generatedTokens: tokens.length,
    queueSeconds: waitedMs / 1000,
    firstTokenSeconds: firstTokenMs === undefined ? undefined : (waitedMs + firstTokenMs) / 1000,
    totalSeconds: (performance.now() - arrived) / 1000,
  });
}
