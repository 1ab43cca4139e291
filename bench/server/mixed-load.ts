import { setMaxListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from './client.js';
import { FLOWS, type FlowContext } from './flows.js';

export interface MixedCounts {
  /** How often each flow was done. */
  readonly done: Readonly<Record<string, number>>;
  readonly failures: number;
  /** The first few. */
  readonly examples: readonly string[];
}

const MAX_EXAMPLES = 10;
const FAILED_MS = 100;

/** All flows at the same time, until stopped. */
export class MixedLoad {
  readonly #over = new AbortController();
  readonly #done: Record<string, number> = Object.fromEntries(Object.keys(FLOWS).map((name) => [name, 0]));
  readonly #examples: string[] = [];
  readonly #ended: Promise<unknown>;
  readonly #client: Client;
  #failures = 0;

  constructor(url: string, prompts: readonly string[]) {
    const { signal: over } = this.#over;
    setMaxListeners(0, over);
    this.#client = new Client(url);
    const context = { client: this.#client, prompts, over };
    const clients = Object.entries(FLOWS).flatMap(([name, { clients, once }]) =>
      Array.from({ length: clients }, () => this.#repeat(name, once, context)),
    );
    this.#ended = Promise.all(clients);
  }

  counts(): MixedCounts {
    return { done: { ...this.#done }, failures: this.#failures, examples: [...this.#examples] };
  }

  async stop(): Promise<MixedCounts> {
    this.#over.abort();
    await this.#ended;
    this.#client.close();
    return this.counts();
  }

  async #repeat(
    name: string,
    once: (context: FlowContext) => Promise<void>,
    context: FlowContext,
  ): Promise<void> {
    while (!context.over.aborted) {
      try {
        await once(context);
        this.#done[name]!++;
      } catch (error) {
        if (context.over.aborted) return;
        this.#failures++;
        if (this.#examples.length < MAX_EXAMPLES) this.#examples.push(`${name}: ${(error as Error).message}`);
        // What fails at once must not become the load.
        await sleep(FAILED_MS);
      }
    }
  }
}
