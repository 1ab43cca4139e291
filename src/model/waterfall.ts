import type { StageTimes } from '../moe-layer.js';

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
