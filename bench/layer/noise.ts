import { percentile, samplesOf } from '../support/measure.js';
import type { CaseFigures, Report, ShapeFigures } from './report-schema.js';

/** Measures the clock, and how much one and the same calculation wavers while nothing else runs here. */
export function measureNoise(): Report['noise'] {
  return { clockStepMs: clockStep(), idle: idleSpread() };
}

function clockStep(): number {
  let step = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 1000; i++) {
    const from = performance.now();
    let now = from;
    while (now === from) now = performance.now();
    step = Math.min(step, now - from);
  }
  return step;
}

const LOOPS = 60;
/** The first ones run before the compiler has come to them. */
const WARM_LOOPS = 10;

function idleSpread(): number {
  const ms = Array.from({ length: LOOPS }, () => {
    const from = performance.now();
    let sum = 0;
    for (let i = 0; i < 2_000_000; i++) sum = (sum + i) % 1_000_003;
    return performance.now() - from + 0 * sum;
  });
  const samples = samplesOf(ms.slice(WARM_LOOPS));
  return percentile(samples, 0.9) / percentile(samples, 0.1);
}

/** From p10 to p90, and from the least to the most of a few readings, a quiet machine stays within this. */
export const QUIET = 1.3;
/** A reading takes 20 ms or more: a coarser clock tells it to less than 1 %. */
const FINE_MS = 0.2;

/** Shares of the floor above this are no rounding. */
const ABOVE_FLOOR = 1.1;

/** What was doubtful before the run; `short` are the times that a coarse clock tells little of. */
export function idleNotes({ clockStepMs, idle }: Report['noise'], short: string): string[] {
  const notes: string[] = [];
  if (clockStepMs > FINE_MS)
    notes.push(`The clock is coarse: it steps by ${clockStepMs.toFixed(2)} ms. ${short} tell little.`);
  if (idle > QUIET)
    notes.push(
      `The machine was noisy before the run: one calculation took up to ${idle.toFixed(1)} times as long.`,
    );
  return notes;
}

export interface NoiseParts {
  readonly noise: Report['noise'];
  readonly lanes: number;
  readonly loadAverage: readonly number[];
  readonly loadAverageAfter: readonly number[];
  readonly shapes: readonly ShapeFigures[];
}

/** What makes the figures of a run doubtful, in words; nothing on a quiet machine with a fine clock. */
export function noiseNotes({ noise, lanes, loadAverage, loadAverageAfter, shapes }: NoiseParts): string[] {
  const notes = idleNotes(noise, 'Times of small calls');
  const load = Math.max(loadAverage[0]!, loadAverageAfter[0]!);
  if (load > lanes + 0.5)
    notes.push(
      `Others computed meanwhile: the load average was ${load.toFixed(1)} for ${lanes} threads in use.`,
    );
  const cases = shapes.flatMap((shape) => shape.cases);
  const loud = cases.filter((figures) => limitSpread(figures) > QUIET);
  if (loud.length > 0)
    notes.push(
      `The limit wavered in ${loud.length} of ${cases.length} cases, by up to ${Math.max(...loud.map(limitSpread)).toFixed(1)} times: their ratios tell little.`,
    );
  const below = cases.filter(({ limit }) => limit.ofFloor > ABOVE_FLOOR);
  if (below.length > 0)
    notes.push(
      `The limit was faster than the floor in ${below.length} of ${cases.length} cases: weights stayed in the cache, or others computed while bandwidth and peak were measured.`,
    );
  return notes;
}

/** How many times as long the same expert calls took. */
export function limitSpread({ limit }: CaseFigures): number {
  return limit.p90Ms / limit.p10Ms;
}
