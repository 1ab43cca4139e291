import { Gauge, type Metric, type Registry } from 'prom-client';
import type { EngineSnapshot } from '../model/engine-snapshot.js';
import { FAMILIES } from './engine-families.js';

/** Where the numbers come from. */
export interface EngineSource {
  readonly snapshot: () => Promise<EngineSnapshot>;
  /** Requests that the server holds back from the engine. */
  readonly queued: () => number;
}

/**
 * The numbers of the engine in a registry. The engine counts in its own thread; its counts are copied at each scrape.
 * prom-client's own counters cannot be set, so the families are metrics by their shape alone.
 */
export class EngineMetrics {
  readonly #source: EngineSource;
  #snapshot: EngineSnapshot | undefined;

  constructor(registry: Registry, source: EngineSource) {
    this.#source = source;
    const gauge = (name: string, help: string, read: () => number) =>
      new Gauge({
        name,
        help,
        registers: [registry],
        collect() {
          this.set(read());
        },
      });
    gauge('turnout_engine_up', 'Whether the engine answered this scrape: 1 or 0.', () =>
      this.#snapshot ? 1 : 0,
    );
    gauge(
      'turnout_num_requests_waiting',
      'Requests that wait, in the queue of the server or in the engine.',
      () => source.queued() + (this.#snapshot?.waiting ?? 0),
    );
    for (const { read, ...family } of FAMILIES) {
      const common = { ...family, aggregator: 'sum' as const };
      const get = async () => ({ ...common, values: this.#snapshot ? read(this.#snapshot) : [] });
      registry.registerMetric({ ...common, get } as unknown as Metric);
    }
  }

  /** Asks the engine. One that does not answer has no numbers in this scrape, rather than old ones. */
  async refresh(): Promise<void> {
    this.#snapshot = await this.#source.snapshot().catch(() => undefined);
  }
}
