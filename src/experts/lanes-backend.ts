import { TurnoutError } from '../errors.js';
import type {
  ExpertBackend,
  ExpertBatch,
  ExpertResults,
  LaneStats,
  Residency,
  RunOptions,
} from './backend.js';
import { checkBatches } from './batches.js';
import { BufferPool } from './buffers.js';
import { CallGate } from './call-gate.js';
import type { Generation, Lane, LaneLoss, LaneResult } from './lane.js';
import { isStopped, Patience, type StopFlag, withinLimits } from './limits.js';
import { type Answered, batchesOf, gatherLoads, type Load, scatter, viewsOf } from './loads.js';
import { Paces } from './paces.js';
import { type Piece, pieceCost, spread } from './placement.js';

export interface LanesInfo {
  readonly kind: ExpertBackend['kind'];
  readonly experts: number;
  readonly hidden: number;
  readonly residency: Residency;
  /** What becomes of a call where an expert cannot be had on any lane; `fail` where left out. */
  readonly onLostExpert?: 'fail' | 'drop';
}

/** Lanes that may die under one and the same rows; then they are probably the reason. */
const MAX_TRIES = 8;

/** What a lane throws that cannot give an expert; `drop` does without it. */
const LOST_CODES: readonly string[] = ['TURNOUT_LANE_DIED', 'TURNOUT_EXPERT_LOST'];

interface Call {
  readonly generation: Generation;
  readonly stop: StopFlag | undefined;
  readonly tries: number;
  /** With `drop`: resolves when the call has waited long enough for experts that do not answer. */
  readonly late?: Promise<undefined>;
}

interface LoadResult extends Answered {
  readonly computeMs: number;
  /** Of a lane that did its part itself. */
  readonly buffer?: ArrayBuffer;
}

/** A backend over lanes: spreads each call over them, one message a lane, and puts the answers together. */
export class LanesBackend implements ExpertBackend {
  readonly kind: ExpertBackend['kind'];
  readonly experts: number;
  readonly hidden: number;
  readonly residency: Residency;
  readonly #drops: boolean;
  /** Cost of the work that each lane has not answered yet. */
  readonly #busy = new WeakMap<Lane, number>();
  readonly #paces = new Paces();
  readonly #buffers: BufferPool;
  readonly #calls: CallGate;
  #current: { readonly generation: Generation; readonly calls: CallGate };
  #closed: Promise<void> | undefined;
  #released = false;

  constructor(generation: Generation, info: LanesInfo) {
    this.kind = info.kind;
    this.experts = info.experts;
    this.hidden = info.hidden;
    this.residency = info.residency;
    this.#drops = info.onLostExpert === 'drop';
    this.#buffers = new BufferPool(2 * generation.lanes.length);
    this.#calls = new CallGate(`the ${info.kind} backend`);
    this.#current = { generation, calls: new CallGate('a generation') };
  }

  /** What a call that begins now sees. */
  protected get generation(): Generation {
    return this.#current.generation;
  }

  /** Calls that begin from now on see `generation`; resolves when the last call that saw another has ended. */
  protected async change(generation: Generation): Promise<void> {
    const before = this.#current;
    this.#current = { generation, calls: new CallGate('a generation') };
    await before.calls.close();
  }

  /** Throws TURNOUT_CLOSED once closing. */
  protected checkOpen(): void {
    if (this.#calls.closing) throw new TurnoutError('TURNOUT_CLOSED', `${this.#calls.name} is closed`);
  }

  async run(batches: readonly ExpertBatch[], options: RunOptions = {}): Promise<ExpertResults> {
    this.#calls.enter();
    const { generation, calls } = this.#current;
    calls.enter();
    const patience = this.#drops ? new Patience(options.timeoutMs) : undefined;
    try {
      return await withinLimits(options, async (stop) => {
        checkBatches(batches, this);
        const late = patience?.over;
        return this.#runAll(batches, { generation, stop, tries: 1, ...(late && { late }) });
      });
    } finally {
      // Also where its work goes on for nobody: what closes or updates does not wait for that.
      patience?.end();
      calls.leave();
      this.#calls.leave();
    }
  }

  async #runAll(batches: readonly ExpertBatch[], call: Call): Promise<ExpertResults> {
    const started = performance.now();
    const loads: Load[] = [];
    const answers: Promise<LoadResult>[] = [];
    try {
      for (const load of this.#spread(batches, call.generation)) {
        loads.push(load);
        answers.push(this.#compute(load, batches, call));
      }
    } catch (error) {
      await Promise.allSettled(answers);
      throw error;
    }
    const gathered = performance.now();
    // All settle before one fails, so that a call that has ended leaves no work behind.
    await Promise.allSettled(answers);
    const results = await Promise.all(answers);
    this.#learn(loads, results, call);
    const parts = scatter(batches, results, this.hidden);
    const lost = parts.flatMap((part, i) => (part ? [] : [i]));
    const computeMs = results.reduce((most, result) => Math.max(most, result.computeMs), 0);
    const transportMs = Math.max(0, performance.now() - gathered - computeMs);
    return {
      outputs: parts.map((part) => part ?? new Float32Array(0)),
      ...(lost.length > 0 && { lost }),
      timing: { gatherMs: gathered - started, transportMs, computeMs },
      recycle: () => {
        // Once: a buffer that is given back twice would serve two calls at a time.
        for (const { buffer } of results.splice(0)) if (buffer) this.#buffers.give(buffer);
      },
    };
  }

  /** Takes the times of a call in which every lane did its part. */
  #learn(loads: readonly Load[], results: readonly LoadResult[], { generation, stop }: Call): void {
    if (isStopped(stop) || results.some(({ buffer }) => buffer === undefined)) return;
    const shares = loads.map(({ lane, pieces }, i) => ({
      lane: generation.lanes[lane]!,
      cost: costOf(pieces),
      ms: results[i]!.computeMs,
    }));
    this.#paces.learn(shares);
  }

  /** Spreads over the lanes that can compute soonest, among those that hold each expert. */
  #spread(batches: readonly ExpertBatch[], { lanes, placement, keys }: Generation): Iterable<Load> {
    const replicas = [...placement.replicas];
    for (const { expert } of batches) replicas[expert] = best(replicas[expert]!, lanes, keys[expert]!);
    const fit = { ...placement, replicas };
    const loads = {
      busy: lanes.map((lane) => this.#busy.get(lane) ?? 0),
      paces: lanes.map((lane) => this.#paces.of(lane)),
    };
    return gatherLoads(batches, spread(batches, fit, loads), { hidden: this.hidden, buffers: this.#buffers });
  }

  async #compute(load: Load, batches: readonly ExpertBatch[], call: Call): Promise<LoadResult> {
    const { pieces } = load;
    const answer = this.#answer(load, batches, call);
    if (!this.#drops) return answer;
    const lost = { pieces, outputs: pieces.map(() => undefined), computeMs: 0 };
    const orLost = answer.catch((error: TurnoutError) => {
      if (LOST_CODES.includes(error.code)) return lost;
      throw error;
    });
    return (await (call.late ? Promise.race([orLost, call.late]) : orLost)) ?? lost;
  }

  async #answer(load: Load, batches: readonly ExpertBatch[], call: Call): Promise<LoadResult> {
    const { pieces } = load;
    const result = await this.#send(load, batches, call);
    if ('died' in result) return { pieces, ...(await this.#again(load, result, { batches, call })) };
    const { buffer, computeMs } = result;
    return { pieces, outputs: viewsOf(pieces, buffer, this.hidden), computeMs, buffer };
  }

  async #send(
    { lane: index, pieces, buffer }: Load,
    batches: readonly ExpertBatch[],
    { generation, stop }: Call,
  ): Promise<LaneResult | LaneLoss> {
    const lane = generation.lanes[index]!;
    const work = pieces.map(({ batch, rows }) => ({
      expert: generation.keys[batches[batch]!.expert]!,
      rows,
    }));
    const cost = costOf(pieces);
    this.#busy.set(lane, (this.#busy.get(lane) ?? 0) + cost);
    try {
      return await lane.compute({ batches: work, buffer, ...(stop ? { stop } : {}) });
    } finally {
      this.#busy.set(lane, this.#busy.get(lane)! - cost);
    }
  }

  /** Has what a dead lane left computed by others, or by the one that takes its place: experts are pure. */
  async #again(
    load: Load,
    loss: LaneLoss,
    { batches, call }: { batches: readonly ExpertBatch[]; call: Call },
  ): Promise<{ outputs: (Float32Array | undefined)[]; computeMs: number }> {
    const left = batchesOf(load, loss.buffer, { batches, hidden: this.hidden });
    const { lanes, placement, keys } = call.generation;
    const gone = isStopped(call.stop) || call.tries >= MAX_TRIES;
    const stuck = new Set(
      left.filter(
        ({ expert }) =>
          gone ||
          placement.replicas[expert]!.every((lane) => lanes[lane]!.takes(keys[expert]!) === 'refuses'),
      ),
    );
    const [first] = stuck;
    if (first && !this.#drops) throw lostError(first.expert, call.tries, loss.died);
    const retried = left.filter((batch) => !stuck.has(batch));
    const { outputs, lost = [], timing } = await this.#runAll(retried, { ...call, tries: call.tries + 1 });
    const answered = new Map(retried.map((batch, i) => [batch, lost.includes(i) ? undefined : outputs[i]]));
    return { outputs: left.map((batch) => answered.get(batch)), computeMs: timing.computeMs };
  }

  lanes(): readonly LaneStats[] {
    if (this.#released) throw new TurnoutError('TURNOUT_CLOSED', `${this.#calls.name} is closed`);
    const { lanes, placement } = this.generation;
    const held: number[][] = lanes.map(() => []);
    for (const [expert, own] of placement.replicas.entries())
      for (const lane of own) held[lane]!.push(expert);
    return lanes.map((lane, i) => {
      const stats = { ...lane.stats(), experts: held[i]! };
      return this.#calls.closing ? { ...stats, state: 'draining' } : stats;
    });
  }

  close(): Promise<void> {
    this.#closed ??= this.#calls.close().then(async () => {
      await this.closeLanes();
      this.#released = true;
    });
    return this.#closed;
  }

  /** Frees the lanes, once the last call has ended. */
  protected async closeLanes(): Promise<void> {
    await Promise.all(this.generation.lanes.map((lane) => lane.close()));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function costOf(pieces: readonly Piece[]): number {
  return pieces.reduce((sum, { rows }) => sum + pieceCost(rows), 0);
}

/** Of the lanes that hold an expert, those that can compute this version of it soonest. */
function best(own: readonly number[], lanes: readonly Lane[], key: number): readonly number[] {
  const takes = own.map((lane) => lanes[lane]!.takes(key));
  const soonest = (['now', 'soon'] as const).find((when) => takes.includes(when));
  return soonest === undefined ? own : own.filter((_, i) => takes[i] === soonest);
}

function lostError(expert: number, tries: number, cause: TurnoutError): TurnoutError {
  const message = `expert ${expert} cannot be had on any lane (tries: ${tries}): ${cause.message}`;
  return new TurnoutError('TURNOUT_EXPERT_LOST', message, { expert, tries, ...cause.details }, { cause });
}
