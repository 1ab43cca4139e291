import type { LaneStats } from '../experts/backend.js';
import type { WindowLoad } from '../router/load-tracker.js';
import type { ModelTimes } from './program.js';

/** What an engine has done and what it does now, as plain data that can be sent between threads. */
export interface EngineSnapshot {
  /** Milliseconds since 1970. */
  readonly at: number;
  readonly running: number;
  readonly waiting: number;
  readonly cache: { readonly block: number; readonly used: number; readonly limit: number };
  readonly steps: number;
  readonly rows: number;
  /** Steps by their rows: `counts` are not cumulative, and one more than the bounds `le`. */
  readonly stepRows: {
    readonly le: readonly number[];
    readonly counts: readonly number[];
    readonly sum: number;
  };
  readonly stageMs: ModelTimes;
  readonly layers: readonly LayerSnapshot[];
  readonly lanes: readonly (LaneStats & { readonly computeMs: number })[];
}

export interface LayerSnapshot {
  readonly layer: number;
  readonly name: string;
  readonly experts: number;
  readonly choices: number;
  readonly total: WindowLoad;
  readonly windows: Readonly<Record<'1s' | '10s' | '60s' | '300s', WindowLoad>>;
}
