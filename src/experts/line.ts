import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import { type Deferred, deferred } from './deferred.js';

/*
 * Questions to a thread that sleeps while it has none. A bell in shared memory wakes it, in half of the time that an
 * event for it takes (60 us there and back, for two threads at once).
 */

/** One int32 in shared memory that changes with every question. */
export type Bell = Int32Array;

export function newBell(): Bell {
  return new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
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
    port.on('message', (answer: Answer) => {
      this.#waiting.shift()?.resolve(answer);
      if (this.#waiting.length === 0) port.unref();
    });
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
    Atomics.add(this.#bell, 0, 1);
    Atomics.notify(this.#bell, 0);
    return answer.promise;
  }

  break(error: Error): void {
    this.#broken ??= error;
    for (const { reject } of this.#waiting.splice(0)) reject(this.#broken);
    this.#port.close();
  }
}

/** The thread that answers, from now on and until it ends: between questions it sleeps, and no event reaches it. */
export async function answerAll<Question, Answer>(
  port: MessagePort,
  bell: Bell,
  answer: (question: Question) => Promise<Answer>,
): Promise<never> {
  for (;;) {
    const rung = Atomics.load(bell, 0);
    for (let next = receiveMessageOnPort(port); next; next = receiveMessageOnPort(port))
      port.postMessage(await answer(next.message));
    Atomics.wait(bell, 0, rung);
  }
}
