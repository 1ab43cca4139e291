import type { BackendOptions } from '../../src/model/open.js';
import type { FusedSpec, SessionsSpec } from '../peers/cold-sessions.js';
import type { PrivateMemory } from './memory.js';

/** What a process opens and calls, and nothing else in its life. */
export type Task =
  | { readonly kind: 'backend'; readonly files: readonly string[]; readonly options: BackendOptions }
  | ({ readonly kind: 'sessions' } & SessionsSpec)
  | ({ readonly kind: 'fused' } & FusedSpec)
  | { readonly kind: 'read'; readonly files: readonly string[]; readonly mostBytes: number }
  | { readonly kind: 'model'; readonly folder: string; readonly options: BackendOptions };

/** The first call: one row x [1, H] of one expert of the first layer; the others are called for their outputs. */
export interface FirstCall {
  readonly hidden: number;
  readonly expert: number;
  readonly others: readonly number[];
}

/** One reading of one task. */
export interface Sample {
  /** From the start of the process until it had loaded the code. */
  readonly bootMs: number;
  /** From the begin of opening to its end, and of the call that follows. */
  readonly openMs: number;
  readonly firstMs: number;
  /** What opening added, in all processes of the task. */
  readonly opened?: PrivateMemory;
  /** What opening and the first call added. */
  readonly called?: PrivateMemory;
  /** y [1, H] of the first expert and the others, to be compared. */
  readonly outputs: readonly Float32Array[];
  /** Of a model: what it generated. */
  readonly text?: string;
  /** Of a task that reads. */
  readonly readBytes?: number;
}
