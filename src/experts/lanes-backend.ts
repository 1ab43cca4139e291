import { TurnoutError } from '../errors.js';
import type {
  BackendCall,
  ExpertBackend,
  ExpertBatch,
  ExpertResults,
  LaneStats,
  Residency,
} from './backend.js';
import { checkBatches } from './batches.js';
import { CallGate } from './call-gate.js';
import type { Generation, Lane } from './lane.js';
import { LaneCall, type LaneCallParts } from './lane-call.js';
import { Patience, withinLimits } from './limits.js';
import { MemoryPool } from './memory-pool.js';
import { Paces } from './paces.js';

export interface LanesInfo {
  readonly kind: ExpertBackend['kind'];
  readonly experts: number;
  readonly hidden: number;
  readonly residency: Residency;
  /** What becomes of a call where an expert cannot be had on any lane; `fail` where left out. */
  readonly onLostExpert?: 'fail' | 'drop';
  /** See `LaneLoads`. */
  readonly callRows?: number;
}

/** A backend over lanes: each call is shared out to them, one message a lane; see `LaneCall`. */
export class LanesBackend implements ExpertBackend {
  readonly kind: ExpertBackend['kind'];
  readonly experts: number;
  readonly hidden: number;
  readonly residency: Residency;
  readonly #drops: boolean;
  readonly #callRows: number | undefined;
  readonly #busy = new WeakMap<Lane, number>();
  readonly #paces = new Paces();
  readonly #memory: MemoryPool;
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
    this.#callRows = info.callRows;
    this.#memory = new MemoryPool();
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

  async run(batches: readonly ExpertBatch[], options: BackendCall = {}): Promise<ExpertResults> {
    this.#calls.enter();
    const { generation, calls } = this.#current;
    calls.enter();
    const patience = this.#drops ? new Patience(options.timeoutMs) : undefined;
    try {
      return await withinLimits(options, async (stop) => {
        checkBatches(batches, this);
        const { hidden } = this;
        const common = {
          batches,
          generation,
          hidden,
          busy: this.#busy,
          paces: this.#paces,
          callRows: this.#callRows,
          drops: this.#drops,
        };
        return this.#runAll({ ...common, stop, late: patience?.over }, options.lend === true);
      });
    } finally {
      // Also where its work goes on for nobody: what closes or updates does not wait for that.
      patience?.end();
      calls.leave();
      this.#calls.leave();
    }
  }

  async #runAll(parts: LaneCallParts, lend: boolean): Promise<ExpertResults> {
    const started = performance.now();
    const call = new LaneCall(parts, (bytes) => this.#memory.take(bytes));
    const handedOver = performance.now();
    await call.run();
    const lent = parts.batches.map((_, batch) => call.output(batch) ?? NOTHING);
    const lost = lent.flatMap((output, batch) => (output === NOTHING ? [batch] : []));
    const { computeMs } = call;
    const transportMs = Math.max(0, performance.now() - handedOver - computeMs);
    const timing = { gatherMs: handedOver - started, transportMs, computeMs };
    const recycle = once(() => {
      if (call.over) this.#memory.give(call.memory);
    });
    const results = { ...(lost.length > 0 && { lost }), timing };
    if (lend) return { outputs: lent, ...results, recycle };
    const outputs = lent.map((y) => y.slice());
    recycle();
    return { outputs, ...results };
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

  /** Takes no new calls; resolves when those under way have ended. Lanes stay as they are. */
  drain(): Promise<void> {
    return this.#calls.close();
  }

  close(): Promise<void> {
    this.#closed ??= this.drain().then(async () => {
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

/** The output of a batch that was lost. */
const NOTHING = new Float32Array(0);

function once(act: () => void): () => void {
  let done = false;
  return () => {
    if (!done) act();
    done = true;
  };
}
