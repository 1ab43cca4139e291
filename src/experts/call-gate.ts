import { TurnoutError } from '../errors.js';

/** Counts the calls under way of something that can be closed, and lets `close` wait for them. */
export class CallGate {
  #active = 0;
  #closed: Promise<void> | undefined;
  #drained: (() => void) | undefined;

  /** `name` is how errors call what the gate belongs to. */
  constructor(readonly name: string) {}

  get active(): number {
    return this.#active;
  }

  /** Whether `close` was called. */
  get closing(): boolean {
    return this.#closed !== undefined;
  }

  /** Counts a call in; each needs one `leave`. Throws TURNOUT_CLOSED once closing. */
  enter(): void {
    if (this.closing) throw new TurnoutError('TURNOUT_CLOSED', `${this.name} is closed`);
    this.#active++;
  }

  leave(): void {
    this.#active--;
    if (this.#active === 0) this.#drained?.();
  }

  /** Lets no new calls in; resolves when the last one has left. Every call gives the same promise. */
  close(): Promise<void> {
    this.#closed ??= new Promise((resolve) => {
      this.#drained = resolve;
      if (this.#active === 0) resolve();
    });
    return this.#closed;
  }
}
