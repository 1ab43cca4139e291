import type { LaneStats } from './backend.js';
import type { InlineBackend } from './inline.js';
import type { Generation, Lane, LaneResult, LaneWork } from './lane.js';

/** The calling thread as a lane beside others: it computes between the turns of its event loop. */
export class HereLane implements Lane {
  readonly #experts: InlineBackend;

  /** Does not own the experts. */
  constructor(experts: InlineBackend) {
    this.#experts = experts;
  }

  takes(): 'now' {
    return 'now';
  }

  async compute(work: LaneWork): Promise<LaneResult> {
    // The others of the call are told first: they have to wake up.
    await Promise.resolve();
    return this.#experts.share(work);
  }

  stats(): Omit<LaneStats, 'experts'> {
    return this.#experts.lanes()[0]!;
  }

  async close(): Promise<void> {}
}

/** The lane of this thread, which holds every expert, and all lanes of a generation but the last one. */
export function joinedBy(here: HereLane, { lanes, placement, keys }: Generation): Generation {
  const others = lanes.slice(0, -1);
  const replicas = placement.replicas.map((own) => [
    0,
    ...own.filter((lane) => lane < others.length).map((lane) => lane + 1),
  ]);
  return { lanes: [here, ...others], placement: { lanes: lanes.length, replicas }, keys };
}
