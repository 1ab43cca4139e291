import { BATCHED, type LoadFigure, NAMES } from './load-figures.js';
import type { OverloadFigure } from './overload.js';

/** What the server is to reach, and what it reached in this run. */
export interface Target {
  readonly what: string;
  readonly wanted: string;
  readonly got: number;
  readonly met: boolean;
}

export function loadTargets(figures: readonly LoadFigure[]): Target[] {
  const at = (name: string) => figures.find((each) => each.name === name && each.clients === BATCHED);
  const [whole, streaming, alone] = [NAMES.whole, NAMES.streaming, NAMES.alone].map(at);
  if (figures.length === 0) return [];
  const delays = figures.flatMap(({ eventLoopDelay }) => eventLoopDelay?.p99Ms ?? []);
  const targets = [atMost('event-loop delay p99, ms, the most of all loads', Math.max(...delays), 20)];
  if (!whole || !streaming?.firstToken || !alone) return targets;
  const batching = whole.tokensPerSecond.median / alone.tokensPerSecond.median;
  return [
    atLeast(`of the engine's tokens per second, ${BATCHED} clients`, whole.ofEngine.median, 0.95),
    atLeast('the same, streaming', streaming.ofEngine.median, 0.8),
    atLeast('times the tokens per second of one at a time', batching, 4),
    atMost('steps to the first token beyond the own prefill, p50', streaming.firstToken.p50Steps, 2),
    ...targets,
  ];
}

export function overloadTargets(figure: OverloadFigure): Target[] {
  const { admittedMs, refusedMs, refusedWithoutRetryAfter, rss, rowsPerSecond } = figure;
  return [
    atMost('p99 of admitted requests, times that of full load', admittedMs.ofFullP99, 2),
    atMost('p99 of refusals, ms', refusedMs.p99, 50),
    atMost('refusals without Retry-After', refusedWithoutRetryAfter, 0),
    atMost('memory of the second half, change from the second minute', Math.abs(rss.ratio - 1), 0.05),
    atLeast(
      'rows per second a second after the end, of full load',
      rowsPerSecond.after / rowsPerSecond.full,
      0.95,
    ),
  ];
}

export function targetRows(targets: readonly Target[]): Record<string, string>[] {
  return targets.map(({ what, wanted, got, met }) => ({
    what,
    wanted,
    got: got.toFixed(2),
    met: met ? 'yes' : 'NO',
  }));
}

function atLeast(what: string, got: number, least: number): Target {
  return { what, wanted: `at least ${least}`, got, met: got >= least };
}

function atMost(what: string, got: number, most: number): Target {
  return { what, wanted: `at most ${most}`, got, met: got <= most };
}
