import type { RunOptions } from '../experts/backend.js';
import type { PlainTensor, Session } from '../experts/session.js';
import type { LayerOutput, MoeLayer, StageTimes } from '../moe-layer.js';
import type { Router, Routing } from '../router/routing.js';
import { type Matrix, matrix } from '../tensor.js';
import type { BlockPool, BlockTable, PagedView } from './cache.js';
import type {
  GraphStepEntry,
  Manifest,
  MoeStepEntry,
  PagedStateEntry,
  ReplaceStateEntry,
} from './manifest.js';
import type { Sequence } from './sequence.js';
import { appendRows, initialState, int64, joinRows, pagedFeeds, sliceRows } from './step-tensors.js';

/** The adjacent rows that one sequence has in a step. */
export interface Span {
  readonly sequence: Sequence;
  readonly start: number;
  readonly length: number;
}

/** Everything that a step feeds: the rows of all its sequences, joined. */
export interface StepBatch extends RunOptions {
  /** [N] */
  readonly ids: BigInt64Array;
  /** [N] place of each row in its own sequence. */
  readonly positions: BigInt64Array;
  /** [M] rows whose logits are wanted. */
  readonly select: BigInt64Array;
  readonly spans: readonly Span[];
  readonly table: BlockTable;
  readonly pools: ReadonlyMap<string, BlockPool>;
  readonly view: PagedView;
}

export interface ModelTimes extends StageTimes {
  /** The dense segments between the MoE layers. */
  readonly trunkMs: number;
}

/** Zero milliseconds in every stage, to be added to. */
export function noTimes(): Record<keyof ModelTimes, number> {
  return { gateMs: 0, routeMs: 0, dispatchMs: 0, transportMs: 0, computeMs: 0, combineMs: 0, trunkMs: 0 };
}

/** Adds stage by stage. */
export function addTimes(sum: Record<keyof ModelTimes, number>, times: Partial<ModelTimes>): void {
  for (const [stage, ms] of Object.entries(times)) sum[stage as keyof ModelTimes] += ms;
}

/** When a step ran, and each of its MoE layers; times of `performance.now()`. */
export interface StepTimeline {
  readonly from: number;
  readonly to: number;
  /** Rows of all sequences together. */
  readonly batchRows: number;
  readonly layers: readonly { readonly from: number; readonly stages: StageTimes }[];
}

export interface StepResult {
  /** [M, vocabulary] */
  readonly logits: Matrix;
  /** One for each MoE layer. */
  readonly routings: readonly Routing[];
  readonly times: ModelTimes;
  readonly timeline: StepTimeline;
  /** `replace` states of each span after the step, to be kept once the whole step has succeeded. */
  readonly replaced: ReadonlyMap<Sequence, ReadonlyMap<string, PlainTensor>>;
}

/** The tensors of one step by name, and what it gathers on its way. */
class StepState {
  readonly tensors = new Map<string, PlainTensor>();
  readonly routings: Routing[] = [];
  readonly replaced = new Map<Sequence, Map<string, PlainTensor>>();
  readonly from = performance.now();
  readonly layers: { from: number; stages: StageTimes }[] = [];
  readonly times = noTimes();
  /** [N] the ids as routers take them, the same for each layer. */
  readonly tokenIds: Int32Array;

  constructor(readonly batch: StepBatch) {
    this.tokenIds = Int32Array.from(batch.ids, Number);
  }

  get(name: string): PlainTensor {
    return this.tensors.get(name)!;
  }

  /** A float32 [n, cols] tensor as a matrix. */
  matrix(name: string): Matrix {
    const { data, dims } = this.get(name);
    return matrix(data as Float32Array, Number(dims[0]), Number(dims[1]));
  }
}

/** Immutable weights and the ordered steps over them. It keeps nothing between runs: sequences and caches come with the batch. */
export class Program {
  readonly #states: ReadonlyMap<string, PagedStateEntry | ReplaceStateEntry>;

  constructor(
    readonly manifest: Manifest,
    readonly layers: readonly MoeLayer[],
    /** Opened trunk segments by file. */
    readonly sessions: ReadonlyMap<string, Session>,
  ) {
    this.#states = new Map(manifest.program.states.map((state) => [state.name, state]));
  }

  /** The same weights and steps with other rules, one for each layer. */
  withRouters(routers: readonly Router[]): Program {
    const layers = this.layers.map((layer, l) => layer.withRouter(routers[l]!));
    return new Program(this.manifest, layers, this.sessions);
  }

  /** Runs all steps over the rows of `batch`. Writes new keys and values into the pools at positions that only a finished step makes visible. */
  async run(batch: StepBatch): Promise<StepResult> {
    const { inputs, outputs, steps } = this.manifest.program;
    const rows = batch.ids.length;
    const state = new StepState(batch);
    state.tensors.set(inputs.ids, int64(batch.ids, [rows]));
    state.tensors.set(inputs.positions, int64(batch.positions, [1, rows]));
    state.tensors.set(inputs.select, int64(batch.select, [batch.select.length]));
    for (const step of steps) {
      if (step.kind === 'moe') await this.#moe(step, state);
      else await this.#graph(step, state);
    }
    return {
      logits: state.matrix(outputs.logits),
      routings: state.routings,
      times: state.times,
      timeline: { from: state.from, to: performance.now(), batchRows: rows, layers: state.layers },
      replaced: state.replaced,
    };
  }

  async #moe(step: MoeStepEntry, state: StepState): Promise<void> {
    const { batch } = state;
    const layer = this.layers[step.layer]!;
    const gate = this.manifest.layers[step.layer]!.gate;
    const from = performance.now();
    const output: LayerOutput = await layer.forward(state.matrix(step.input), {
      ...(gate && 'logits' in gate ? { logits: state.matrix(gate.logits) } : {}),
      ...(batch.signal ? { signal: batch.signal } : {}),
      ...(batch.timeoutMs === undefined ? {} : { timeoutMs: batch.timeoutMs }),
      badRows: 'report',
      tokenIds: state.tokenIds,
      sequences: batch.spans.map(({ sequence, length }) => {
        const counters = sequence.counters[step.layer];
        return { length, request: sequence.request.request ?? 0, ...(counters ? { state: counters } : {}) };
      }),
    });
    state.tensors.set(step.output, {
      type: 'float32',
      dims: [output.y.rows, output.y.cols],
      data: output.y.data,
    });
    state.routings[step.layer] = output.routing;
    state.layers[step.layer] = { from, stages: output.times };
    addTimes(state.times, output.times);
  }

  async #graph(step: GraphStepEntry, state: StepState): Promise<void> {
    const from = performance.now();
    if (step.domain === 'rows') await this.#rows(step, state);
    else await this.#perSequence(step, state);
    state.times.trunkMs += performance.now() - from;
  }

  /** One run over the joined rows of all sequences. */
  async #rows(step: GraphStepEntry, state: StepState): Promise<void> {
    const feeds = Object.fromEntries(
      Object.entries(step.inputs).map(([port, name]) => [port, state.get(name)]),
    );
    const pool = step.state === undefined ? undefined : state.batch.pools.get(step.state);
    if (pool) Object.assign(feeds, pagedFeeds(pool, state.batch));
    const results = await this.#session(step).run(feeds);
    if (pool) appendRows(pool, state.batch, results);
    for (const [port, name] of Object.entries(step.outputs)) state.tensors.set(name, results[port]!);
  }

  /** One run for each sequence over its own rows, its state handed in and taken out again. */
  async #perSequence(step: GraphStepEntry, state: StepState): Promise<void> {
    const kept = step.state === undefined ? undefined : (this.#states.get(step.state) as ReplaceStateEntry);
    const parts: Record<string, PlainTensor>[] = [];
    for (const span of state.batch.spans) {
      const feeds = Object.fromEntries(
        Object.entries(step.inputs).map(([port, name]) => [port, sliceRows(state.get(name), span)]),
      );
      if (kept) feeds[kept.input] = span.sequence.replaced.get(kept.name) ?? initialState(kept);
      const results = await this.#session(step).run(feeds);
      if (kept) {
        const changed = state.replaced.get(span.sequence) ?? new Map<string, PlainTensor>();
        state.replaced.set(span.sequence, changed.set(kept.name, results[kept.output]!));
      }
      parts.push(results);
    }
    for (const [port, name] of Object.entries(step.outputs)) {
      state.tensors.set(name, joinRows(parts.map((part) => part[port]!)));
    }
  }

  #session(step: GraphStepEntry): Session {
    return this.sessions.get(step.model)!;
  }
}
