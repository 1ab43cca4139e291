import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import { type Deferred, deferred } from './deferred.js';

/*
 * Questions to a thread that sleeps while it has none. A bell in shared memory wakes it, in half of the time that an
 * event for it takes (60 us there and back, for two threads at once). A thread with a core to itself stays awake for a
 * while after it has answered: one that was asleep gets a core of its own only some time after it was woken, up to 4 ms.
 */

/** Two int32 in shared memory. The numbers of questions and of answers wrap around. */
export type Bell = Int32Array;

const [ASKED, ANSWERED] = [0, 1] as const;
const WORDS = 2;

/**
 * How long a thread stays awake for the next question: a share of the time that its last answers took, for what lies
 * between two calls of a layer grows with them; at least as long as lies between short ones, and never for long.
 */
const LINGER_SHARE = 1 / 4;
const LEAST_LINGER_MS = 0.5;
const MOST_LINGER_MS = 20;

/** A thread that is awake and does not run for so long was put aside: another one needs its core. */
const PUT_ASIDE_MS = 0.25;

/** Looks at the bell, some microseconds long, for one at the clock: each time of day is a number on the heap, and garbage then. */
const LOOKS = 1000;

export function newBell(): Bell {
  return new Int32Array(new SharedArrayBuffer(WORDS * Int32Array.BYTES_PER_ELEMENT));
}

/** The side that asks. Answers come in the order of the questions. */
export class Line<Question, Answer> {
  readonly #port: MessagePort;
  readonly #bell: Bell;
  readonly #waiting: Deferred<Answer>[] = [];
  #broken: Error | undefined;

  /** The end of the other side ends the line with an error of `whyBroken`. */
  constructor(port: MessagePort, bell: Bell, whyBroken: () => Error) {
    this.#port = port;
    this.#bell = bell;
    port.on('message', (answer: Answer) => this.#take(answer));
    port.once('close', () => this.break(whyBroken()));
    port.unref();
  }

  /** Throws the error of a line that is broken, or breaks meanwhile. */
  ask(question: Question): Promise<Answer> {
    if (this.#broken) return Promise.reject(this.#broken);
    const answer = deferred<Answer>();
    this.#waiting.push(answer);
    // A question that waits keeps the process.
    if (this.#waiting.length === 1) this.#port.ref();
    this.#port.postMessage(question);
    Atomics.add(this.#bell, ASKED, 1);
    Atomics.notify(this.#bell, ASKED);
    return answer.promise;
  }

  /**
   * A way to take the answers to all that was asked until now, as far as they come before a deadline (of
   * `performance.now`): this thread stands still meanwhile.
   */
  listen(): (deadline: number) => void {
    const asked = Atomics.load(this.#bell, ASKED);
    const missing = () => ((asked - Atomics.load(this.#bell, ANSWERED)) | 0) > 0;
    return (deadline) => {
      while (this.#waiting.length > 0 && holds(missing) && performance.now() < deadline);
      for (let next = receiveMessageOnPort(this.#port); next; next = receiveMessageOnPort(this.#port))
        this.#take(next.message);
    };
  }

  #take(answer: Answer): void {
    this.#waiting.shift()?.resolve(answer);
    if (this.#waiting.length === 0) this.#port.unref();
  }

  break(error: Error): void {
    this.#broken ??= error;
    for (const { reject } of this.#waiting.splice(0)) reject(this.#broken);
    this.#port.close();
  }
}

/**
 * The thread that answers, from now on and until it ends: no event reaches it. Between questions it sleeps, after a while
 * where it `lingers`; that is for threads that have a core each, for it takes one.
 */
export async function answerAll<Question, Answer>(
  { port, bell, lingers }: { readonly port: MessagePort; readonly bell: Bell; readonly lingers: boolean },
  answer: (question: Question) => Promise<Answer>,
): Promise<never> {
  for (;;) {
    const began = performance.now();
    const asked = Atomics.load(bell, ASKED);
    for (let next = receiveMessageOnPort(port); next; next = receiveMessageOnPort(port)) {
      port.postMessage(await answer(next.message));
      Atomics.add(bell, ANSWERED, 1);
    }
    if (lingers) stayAwake(bell, { asked, tookMs: performance.now() - began });
    Atomics.wait(bell, ASKED, asked);
  }
}

/** Until it is asked again, but not for long, and only while it has its core to itself. */
function stayAwake(bell: Bell, { asked, tookMs }: { readonly asked: number; readonly tookMs: number }): void {
  const lingerMs = Math.min(MOST_LINGER_MS, Math.max(LEAST_LINGER_MS, LINGER_SHARE * tookMs));
  const isQuiet = () => Atomics.load(bell, ASKED) === asked;
  let last = performance.now();
  const until = last + lingerMs;
  while (holds(isQuiet)) {
    const now = performance.now();
    if (now > until || now - last > PUT_ASIDE_MS) return;
    last = now;
  }
}

/** Whether it is true each time of several microseconds of looking. */
function holds(isTrue: () => boolean): boolean {
  for (let look = 0; look < LOOKS; look++) if (!isTrue()) return false;
  return true;
}
