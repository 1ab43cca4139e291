import { channel } from 'node:diagnostics_channel';
import { TurnoutError } from './errors.js';
import type { ExpertBackend, ExpertBatch, ExpertResults, RunOptions } from './experts/backend.js';
import type { Gate } from './gate.js';
import { assertGoodRows } from './router/bad-rows.js';
import { combine } from './router/combine.js';
import { gatherRows } from './router/dispatch.js';
import { loseExperts } from './router/lose.js';
import { planDispatch } from './router/plan.js';
import type { DispatchPlan, Router, RouterInput, Routing } from './router/routing.js';
import { type Matrix, row } from './tensor.js';

/** Milliseconds that one call spent in each stage of the token path. */
export interface StageTimes {
  readonly gateMs: number;
  readonly routeMs: number;
  /** Planning, and handing the rows to the lanes, which gather those of each expert. */
  readonly dispatchMs: number;
  readonly transportMs: number;
  /** The ONNX calls of the busiest lane. */
  readonly computeMs: number;
  readonly combineMs: number;
}

/** What one call may bring beside its hidden states: everything a router takes, and the limits of the expert call. */
export interface LayerCall extends Omit<RouterInput, 'logits' | 'layer'>, RunOptions {
  /** [T, E] gate outputs that are known already; the gate is not asked then. */
  readonly logits?: Matrix;
  /** [T, H] to write y into, instead of a new matrix: for callers whose calls follow each other, it saves much collecting of garbage. */
  readonly into?: Matrix;
  /** `report`: rows with NaN or infinite logits get no expert and stand in `routing.badRows`; `throw` is the default. */
  readonly badRows?: 'throw' | 'report';
}

export interface LayerOutput {
  /** [T, H] weighted sum of the chosen experts, shared experts added. Zero for a token whose choices were all dropped. */
  readonly y: Matrix;
  /** What was computed: choices whose expert the backend lost are dropped in it, with reason `lost`. */
  readonly routing: Routing;
  readonly plan: DispatchPlan;
  readonly times: StageTimes;
}

/** The message on the diagnostics channel `turnout:layer`, published after each call that has subscribers. */
export interface LayerEvent {
  readonly layer: number;
  readonly name: string;
  /** The rule that decided. */
  readonly router: Router;
  readonly routing: Routing;
  readonly times: StageTimes;
}

export interface LayerParts {
  readonly name: string;
  /** l: keys the random numbers, and names the layer to observers. */
  readonly index: number;
  readonly router: Router;
  readonly backend: ExpertBackend;
  /** Left out where the logits come with each call. */
  readonly gate?: Gate;
  /** Where the experts of this layer begin in the backend. */
  readonly firstExpert?: number;
  /** Backend numbers of experts that take every token, added after combine with weight 1. */
  readonly shared?: readonly number[];
  /** [constant experts, H] what the constant zero-computation experts of the router give. */
  readonly constants?: Matrix;
}

const layerChannel = channel('turnout:layer');
const NO_ROWS = new Float32Array(0);

/**
 * One Mixture-of-Experts layer: gate -> route -> plan -> backend.run -> combine.
 * The gate, the router and the backend are handed in; the layer never knows where an expert runs. It owns none of them.
 */
export class MoeLayer {
  readonly name: string;
  readonly index: number;
  readonly router: Router;
  readonly hidden: number;
  readonly #parts: LayerParts;

  /** Throws TURNOUT_SHAPE_MISMATCH where `constants` are not those that the router needs. */
  constructor(parts: LayerParts) {
    checkConstants(parts);
    this.#parts = parts;
    this.name = parts.name;
    this.index = parts.index;
    this.router = parts.router;
    this.hidden = parts.backend.hidden;
  }

  /** Whether it scores tokens itself; else their logits come with each call. */
  get hasGate(): boolean {
    return this.#parts.gate !== undefined;
  }

  /** The same experts and gate under another rule. */
  withRouter(router: Router): MoeLayer {
    return new MoeLayer({ ...this.#parts, router });
  }

  /**
   * x [T,H] -> y [T,H] with the routing behind it.
   * Throws TURNOUT_SHAPE_MISMATCH, TURNOUT_LOGITS_INVALID (unless `badRows: 'report'`), TURNOUT_EXPERT_LOST for a shared
   * expert (a lost one of the router is dropped), and what the backend throws.
   */
  async forward(x: Matrix, call: LayerCall = {}): Promise<LayerOutput> {
    const { router, backend, firstExpert = 0, shared = [] } = this.#parts;
    if (x.cols !== this.hidden) throw this.#shapeError(x);
    const { signal, timeoutMs, badRows, into, logits: known, ...given } = call;
    if (into) this.#checkInto(into, x);
    const clock = new StageClock();

    const scored = known ? { logits: known } : await this.#score(x);
    clock.mark('gateMs');
    const routed = router.route({ ...given, ...scored, layer: this.index });
    if (badRows !== 'report') assertGoodRows(routed);
    clock.mark('routeMs');
    const planned = planDispatch(routed);
    const batches = [...expertBatches(planned, router.computed, x, firstExpert), ...sharedBatches(shared, x)];
    clock.mark('dispatchMs');
    const results = await backend.run(batches, {
      ...(signal ? { signal } : {}),
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
      lend: true,
    });
    clock.split(results.timing);
    const { routing, plan, outputs } = this.#answered({ routing: routed, plan: planned }, batches, results);
    const always = outputs.slice(outputs.length - shared.length);
    const y = combine(plan, this.#byExpert(plan, x, outputs), this.hidden, {
      shared: always,
      ...(into && { into }),
    });
    results.recycle?.();
    clock.mark('combineMs');

    const times = clock.times();
    if (layerChannel.hasSubscribers) {
      const event: LayerEvent = { layer: this.index, name: this.name, router, routing, times };
      layerChannel.publish(event);
    }
    return { y, routing, plan, times };
  }

  /** What was decided and what came of it: as it is, or without the experts that the backend lost. */
  #answered(
    decided: Pick<LayerOutput, 'routing' | 'plan'>,
    batches: readonly ExpertBatch[],
    { outputs, lost = [] }: ExpertResults,
  ): Pick<LayerOutput, 'routing' | 'plan'> & Pick<ExpertResults, 'outputs'> {
    if (lost.length === 0) return { ...decided, outputs };
    const { shared = [], firstExpert = 0 } = this.#parts;
    const sharedFrom = batches.length - shared.length;
    const needed = lost.find((batch) => batch >= sharedFrom);
    if (needed !== undefined) throw this.#lostError(batches[needed]!.expert);
    const experts = lost.map((batch) => batches[batch]!.expert - firstExpert);
    const routing = loseExperts(decided.routing, experts);
    const gone = new Set(lost);
    return { routing, plan: planDispatch(routing), outputs: outputs.filter((_, batch) => !gone.has(batch)) };
  }

  /** The outputs in batch order -> one entry [n,H] for each expert, empty where it had no rows. */
  #byExpert(plan: DispatchPlan, x: Matrix, outputs: readonly Float32Array[]): Float32Array[] {
    const byExpert = new Array<Float32Array>(plan.experts).fill(NO_ROWS);
    let next = 0;
    for (let e = 0; e < plan.experts; e++) {
      if (plan.offsets[e] === plan.offsets[e + 1]) continue;
      byExpert[e] = e < this.router.computed ? outputs[next++]! : this.#uncomputed(plan, x, e);
    }
    return byExpert;
  }

  /** What a zero-computation expert gives for its rows [n,H]: zeros, its input, or its learned vector. */
  #uncomputed(plan: DispatchPlan, x: Matrix, e: number): Float32Array {
    const { computed, zeroComputation } = this.router;
    const { zero, copy } = zeroComputation;
    const output = new Float32Array((plan.offsets[e + 1]! - plan.offsets[e]!) * this.hidden);
    if (e < computed + zero) return output;
    if (e < computed + zero + copy) gatherRows(plan, e, x, output, 0);
    else this.#constant(e - computed - zero - copy, plan, e, output);
    return output;
  }

  /** The learned vector of constant expert `index`, for each row of expert `e`. */
  #constant(index: number, plan: DispatchPlan, e: number, output: Float32Array): void {
    const vector = row(this.#parts.constants!, index);
    const first = plan.offsets[e]!;
    for (let a = first; a < plan.offsets[e + 1]!; a++) output.set(vector, (a - first) * this.hidden);
  }

  async #score(x: Matrix): Promise<{ logits: Matrix; noiseScale?: Matrix }> {
    if (this.#parts.gate) return this.#parts.gate.score(x);
    throw new TurnoutError(
      'TURNOUT_INPUT_INVALID',
      `${this.name} has no gate: expected \`logits\` with the call`,
    );
  }

  /** Others that a token chose can take the share of a lost expert; nothing can take that of a shared one. */
  #lostError(expert: number): TurnoutError {
    const message = `${this.name}: every token needs the shared expert, number ${expert} of the backend, and no lane could run it`;
    return new TurnoutError('TURNOUT_EXPERT_LOST', message, { layer: this.index, expert });
  }

  #checkInto(into: Matrix, x: Matrix): void {
    if (into.rows === x.rows && into.cols === this.hidden && into.data !== x.data) return;
    const got = into.data === x.data ? 'x itself' : `[${into.rows}, ${into.cols}]`;
    const message = `${this.name}: expected \`into\` [${x.rows}, ${this.hidden}], got ${got}`;
    throw new TurnoutError('TURNOUT_SHAPE_MISMATCH', message, { expected: [x.rows, this.hidden], got });
  }

  #shapeError(x: Matrix): TurnoutError {
    return new TurnoutError(
      'TURNOUT_SHAPE_MISMATCH',
      `${this.name}: expected hidden states [T, ${this.hidden}], got [${x.rows}, ${x.cols}]`,
      { expected: this.hidden, got: x.cols },
    );
  }
}

function checkConstants({ name, router, backend, constants }: LayerParts): void {
  const expected = router.zeroComputation.constant;
  if ((constants?.rows ?? 0) === expected && (constants?.cols ?? backend.hidden) === backend.hidden) return;
  const got = constants ? `[${constants.rows}, ${constants.cols}]` : 'none';
  const message = `${name}: expected constants [${expected}, ${backend.hidden}], got ${got}`;
  throw new TurnoutError('TURNOUT_SHAPE_MISMATCH', message, { expected, got });
}

/** One batch for each expert that has rows. */
function expertBatches(plan: DispatchPlan, computed: number, x: Matrix, firstExpert: number): ExpertBatch[] {
  const batches: ExpertBatch[] = [];
  for (let e = 0; e < computed; e++) {
    const [first, end] = [plan.offsets[e]!, plan.offsets[e + 1]!];
    if (first === end) continue;
    batches.push({
      expert: firstExpert + e,
      x,
      rows: plan.tokenIds.subarray(first, end),
      ...(plan.weightsOn === 'input' && { scales: plan.weights.subarray(first, end) }),
    });
  }
  return batches;
}

function sharedBatches(shared: readonly number[], x: Matrix): ExpertBatch[] {
  if (x.rows === 0) return [];
  const rows = Int32Array.from({ length: x.rows }, (_, row) => row);
  return shared.map((expert) => ({ expert, x, rows }));
}

/** Measures consecutive stages. */
class StageClock {
  #last = performance.now();
  readonly #times = { gateMs: 0, routeMs: 0, dispatchMs: 0, transportMs: 0, computeMs: 0, combineMs: 0 };

  mark(stage: keyof StageTimes): void {
    const now = performance.now();
    this.#times[stage] += now - this.#last;
    this.#last = now;
  }

  /** The backend's call, in its own parts; handing rows over counts as dispatch. */
  split(timing: { gatherMs: number; transportMs: number; computeMs: number }): void {
    this.#last = performance.now();
    this.#times.dispatchMs += timing.gatherMs;
    this.#times.transportMs += timing.transportMs;
    this.#times.computeMs += timing.computeMs;
  }

  times(): StageTimes {
    return { ...this.#times };
  }
}
