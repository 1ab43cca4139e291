import type { StageTimes } from '../moe-layer.js';
import type { SequenceStep } from './sequence.js';

/** What one sequence passed through, in milliseconds from the start of its request. */
export interface Waterfall {
  readonly totalMs: number;
  readonly steps: readonly WaterfallStep[];
}

export interface WaterfallStep {
  readonly fromMs: number;
  readonly toMs: number;
  /** Rows of this sequence, and of all sequences in the step. */
  readonly rows: number;
  readonly batchRows: number;
  readonly layers: readonly WaterfallLayer[];
}

export interface WaterfallLayer {
  readonly layer: number;
  readonly fromMs: number;
  readonly stages: StageTimes;
}

/** The steps of a sequence as a waterfall; the layers of a step by their number. */
export function waterfallOf(timeline: readonly SequenceStep[], totalMs: number): Waterfall {
  const steps = timeline.map(({ from, to, rows, batchRows, layers }) => ({
    fromMs: from,
    toMs: to,
    rows,
    batchRows,
    layers: layers.map(({ from: fromMs, stages }, layer) => ({ layer, fromMs, stages })),
  }));
  return { totalMs, steps };
}
