import { Gauge, type Metric, type Registry } from 'prom-client';
import type { EngineSnapshot } from '../model/engine-snapshot.js';
import { FAMILIES } from './engine-families.js';

/**
 * The numbers of the engine in a registry. The engine counts in its own thread; its counts are copied at each scrape.
 * prom-client's own counters cannot be set, so the families are metrics by their shape alone.
 */
export class EngineMetrics {
  readonly #source: () => Promise<EngineSnapshot>;
  #snapshot: EngineSnapshot | undefined;

  constructor(registry: Registry, source: () => Promise<EngineSnapshot>) {
    this.#source = source;
    const up = () => (this.#snapshot ? 1 : 0);
    new Gauge({
      name: 'turnout_engine_up',
      help: 'Whether the engine answered this scrape: 1 or 0.',
      registers: [registry],
      collect() {
        this.set(up());
      },
    });
    for (const { read, ...family } of FAMILIES) {
      const common = { ...family, aggregator: 'sum' as const };
      const get = async () => ({ ...common, values: this.#snapshot ? read(this.#snapshot) : [] });
      registry.registerMetric({ ...common, get } as unknown as Metric);
    }
  }

  /** Asks the engine. One that does not answer has no numbers in this scrape, rather than old ones. */
  async refresh(): Promise<void> {
    this.#snapshot = await this.#source().catch(() => undefined);
  }
}
