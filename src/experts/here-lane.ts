import type { LaneStats } from './backend.js';
import type { InlineBackend } from './inline.js';
import type { Generation, Lane, LaneResult, LaneWork } from './lane.js';
import type { ThreadGeneration } from './threads.js';

/**
 * How long it waits for the others when it has done its part, instead of going through its event loop to hear them: less
 * than a piece of its own may take.
 */
const HEAR_MS = 1;

/** The calling thread as a lane beside threads: it computes between the turns of its event loop. */
class HereLane implements Lane {
  readonly #experts: InlineBackend;
  readonly #heard: ThreadGeneration['lanes'];

  /** Waits for those `heard` where it is done first. */
  constructor(experts: InlineBackend, heard: ThreadGeneration['lanes']) {
    this.#experts = experts;
    this.#heard = heard;
  }

  takes(): 'now' {
    return 'now';
  }

  async compute(work: LaneWork): Promise<LaneResult> {
    // The others of the call are told first: they have to wake up.
    await Promise.resolve();
    const heard = this.#heard.map((lane) => lane.listen());
    const result = await this.#experts.share(work, { place: (key) => key });
    const deadline = performance.now() + HEAR_MS;
    for (const hear of heard) hear(deadline);
    return result;
  }

  stats(): Omit<LaneStats, 'experts'> {
    return this.#experts.lanes()[0]!;
  }

  async close(): Promise<void> {}
}

/** All lanes of a generation but the last one, and in its place this thread, which holds every expert. Owns none of them. */
export function joinedBy(experts: InlineBackend, { lanes, placement, keys }: ThreadGeneration): Generation {
  const others = lanes.slice(0, -1);
  const here = others.length;
  const replicas = placement.replicas.map((own) => [...own.filter((lane) => lane < here), here]);
  const lane = new HereLane(
    experts,
    others.filter(({ lingers }) => lingers),
  );
  return {
    lanes: [...others, lane],
    placement: { lanes: lanes.length, replicas },
    keys,
  };
}
