import type { EngineSnapshot } from '../model/engine-snapshot.js';
import type { ServerContext } from './context.js';

/** Milliseconds that the engine gets to answer: it does between two computations. */
const SNAPSHOT_MS = 5000;

/** Asks the engine what it does; those who ask at the same time share an answer. */
export class Observer {
  readonly #take: () => Promise<EngineSnapshot>;
  #running: Promise<EngineSnapshot> | undefined;

  constructor(take: (limits: { timeoutMs: number }) => Promise<EngineSnapshot>) {
    this.#take = () => take({ timeoutMs: SNAPSHOT_MS });
  }

  snapshot(): Promise<EngineSnapshot> {
    this.#running ??= this.#take().finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }
}

/** The body of GET /v1/status. */
export function statusBody(
  context: ServerContext,
  { running, steps, rows, cache, stageMs, lanes }: EngineSnapshot,
) {
  const { admission, options, engine, version, startedAt } = context;
  return {
    version,
    model: engine.info.manifest.name,
    startedAt,
    state: context.ready() ? 'ready' : 'draining',
    admission: {
      running: admission.running,
      waiting: admission.waiting,
      runningLimit: options.running,
      queueLimit: options.queue,
    },
    engine: { running, steps, rows, cache, stageMs },
    memory: { rssBytes: process.memoryUsage.rss() },
    lanes,
  };
}

/** The body of GET /v1/routing. */
export function routingBody({ engine, presets }: ServerContext, { at, layers }: EngineSnapshot) {
  return { model: engine.info.manifest.name, at, presets, layers };
}
