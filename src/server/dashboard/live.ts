import type { RoutingReport, StatusReport } from './api.js';
import { ApiError, type Http } from './http.js';

/** Events come each second: after this long without one the connection counts as lost. */
const SILENCE_MS = 6_000;
const LONGEST_WAIT_MS = 15_000;

export type Connection =
  | { readonly state: 'connecting' }
  | { readonly state: 'live' }
  /** `why` is what the server or the browser said; the next try is at `retryAt`, in ms of Date.now(). */
  | { readonly state: 'gone'; readonly why: string; readonly retryAt: number };

export interface LiveListener {
  routing(report: RoutingReport): void;
  status(report: StatusReport): void;
  connection(connection: Connection): void;
}

/** The event stream of the server, opened again with growing pauses whenever it is lost. */
export class Live {
  #failures = 0;
  #wake: (() => void) | undefined;

  constructor(
    readonly http: Http,
    readonly listener: LiveListener,
  ) {}

  async run(): Promise<never> {
    for (;;) {
      this.listener.connection({ state: 'connecting' });
      const why = await this.#follow().catch((error: unknown) => reasonOf(error));
      const wait = Math.min(LONGEST_WAIT_MS, 1_000 * 2 ** this.#failures);
      this.#failures++;
      this.listener.connection({ state: 'gone', why, retryAt: Date.now() + wait });
      await this.#pause(wait);
    }
  }

  /** Ends the pause. */
  retry(): void {
    this.#wake?.();
  }

  async #follow(): Promise<string> {
    const silent = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    try {
      for await (const { event, data } of this.http.events('/v1/routing/events', silent.signal)) {
        clearTimeout(timer);
        timer = setTimeout(() => silent.abort(), SILENCE_MS);
        this.#take(event, data);
      }
      return 'The server closed the connection.';
    } catch (error) {
      if (silent.signal.aborted) return 'The server has fallen silent.';
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  #take(event: string, data: string): void {
    if (this.#failures > 0 || event === 'routing') this.listener.connection({ state: 'live' });
    this.#failures = 0;
    if (event === 'routing') this.listener.routing(JSON.parse(data) as RoutingReport);
    if (event === 'status') this.listener.status(JSON.parse(data) as StatusReport);
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

function reasonOf(error: unknown): string {
  if (error instanceof ApiError) return error.message;
  return 'The server cannot be reached.';
}
