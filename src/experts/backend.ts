import type { Matrix } from '../tensor.js';

/** Where an expert's weights live once opened: `mapped` pages shared by all lanes (float32 only), or `packed` copies. */
export type Residency = 'mapped' | 'packed';

/** One expert as a backend opens it: an ONNX file with input `x` [n, H] and output `y` [n, H], n from 0 up. */
export interface ExpertFile {
  /** Absolute path of the ONNX file; external data lies beside it. */
  readonly path: string;
  /** Absolute paths of its external data. Where they are given, no process opens others in their place. */
  readonly data?: readonly string[];
}

/** The rows of one expert in one layer call. Everything is read before `run` returns, and may be used again then. */
export interface ExpertBatch {
  /** Index in the backend's list of experts. */
  readonly expert: number;
  /** Hidden states [*, H] that its rows are taken from; batches of one call may share them. */
  readonly x: Matrix;
  /** [n] rows of x, at least one. */
  readonly rows: Int32Array;
  /** [n] by what each row is multiplied before the expert gets it; by nothing where left out. */
  readonly scales?: Float32Array;
}

export interface RunOptions {
  /** Settles the call at once with TURNOUT_ABORTED; an ONNX call under way ends and its result is discarded. */
  readonly signal?: AbortSignal;
  /** Milliseconds that this call may take; then TURNOUT_DEADLINE_EXCEEDED. */
  readonly timeoutMs?: number;
}

export interface BackendCall extends RunOptions {
  /** Whether the outputs may be memory of the backend, which saves a copy: they are its again once `recycle` is called. */
  readonly lend?: boolean;
}

export interface ExpertResults {
  /** For each batch, in the order given: y [n, H], the caller's to change. Those that are lent share one buffer. */
  readonly outputs: readonly Float32Array[];
  /**
   * Indexes of batches whose expert could not be had, ascending; their outputs are empty. Only of a backend that was
   * opened with `onLostExpert: 'drop'`; others throw instead.
   */
  readonly lost?: readonly number[];
  /** Gives the memory of lent outputs back for later calls; they must not be used any more then. */
  readonly recycle?: () => void;
  /** Milliseconds: handing rows over, moving them to and from lanes, and the busiest lane, with the gathering it does. */
  readonly timing: { readonly gatherMs: number; readonly transportMs: number; readonly computeMs: number };
}

/** One lane as observers see it. */
export interface LaneStats {
  readonly lane: number;
  readonly device: string;
  /** Execution provider of ONNX Runtime. */
  readonly provider: string;
  /** See docs/lifecycle.md. */
  readonly state: 'starting' | 'ready' | 'busy' | 'draining' | 'dead';
  /** The experts that it holds, by their number in the backend. */
  readonly experts: readonly number[];
  /** Calls that it has not answered yet. */
  readonly queue: number;
  /** Layer calls, expert batches and rows that this lane has computed. */
  readonly calls: number;
  readonly batches: number;
  readonly rows: number;
  /** Milliseconds that it has computed. */
  readonly computeMs: number;
  readonly restarts: number;
  /** Only of a lane that is a process. */
  readonly process?: ProcessStats;
}

export interface ProcessStats {
  /** Absent while there is none. */
  readonly pid?: number;
  /** Bytes, as the process last told; `privateBytes` are those that it shares with no other, where the system tells. */
  readonly rssBytes: number;
  readonly privateBytes?: number;
  /**
   * `closed`: deaths are followed by a restart. `open`: it died too often in a row, and refuses calls until its next
   * start. `half-open`: it has started again, and its next death opens the circuit at once.
   */
  readonly circuit: 'closed' | 'open' | 'half-open';
  /** Why it last died, or could not start. */
  readonly lastDeath?: string;
}

/**
 * A place that runs experts. One verb: `run`. All backends give the same numbers, and the same bits for the same residency.
 * Every method of a closed backend but `close` throws TURNOUT_CLOSED.
 */
export interface ExpertBackend extends AsyncDisposable {
  readonly kind: 'inline' | 'threads' | 'processes' | 'auto';
  /** Number of experts it holds. */
  readonly experts: number;
  /** H */
  readonly hidden: number;
  readonly residency: Residency;
  run(batches: readonly ExpertBatch[], options?: BackendCall): Promise<ExpertResults>;
  lanes(): readonly LaneStats[];
  /** Takes no new calls, waits for those under way, then frees the lanes. Calling it twice is allowed. */
  close(): Promise<void>;
}
