import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { type Deferred, deferred } from '../../src/experts/deferred.js';
import { type Answer, answer, revive } from '../../src/experts/remote-error.js';

/** What a program of the bench answers, by name. */
export type Answers = Readonly<Record<string, (ask: never) => unknown>>;

interface Ask {
  readonly id: number;
  readonly kind: string;
  readonly ask: unknown;
}

type Answered = Answer<unknown> & { readonly id: number };

/** A program of the bench in a process of its own, so that it shares no event loop and no heap with what it measures. */
export class Child<A extends Answers> implements AsyncDisposable {
  readonly #process: ChildProcess;
  readonly #pending = new Map<number, Deferred<unknown>>();
  #next = 0;

  /** `env` is beside what it inherits: an undefined variable is one that it does not. */
  constructor(program: URL, execArgv: readonly string[] = [], env: NodeJS.ProcessEnv = {}) {
    this.#process = fork(program, {
      execArgv: [...execArgv],
      serialization: 'advanced',
      env: { ...process.env, ...env },
    });
    this.#process.on('message', (answered: Answered) => {
      const pending = this.#pending.get(answered.id);
      this.#pending.delete(answered.id);
      if ('value' in answered) pending?.resolve(answered.value);
      else pending?.reject(revive(answered.error));
    });
    this.#process.on('exit', (code) => {
      for (const { reject } of this.#pending.values())
        reject(new Error(`${program.pathname} ended: ${code}`));
      this.#pending.clear();
    });
  }

  get pid(): number {
    return this.#process.pid!;
  }

  ask<K extends keyof A & string>(kind: K, ...[ask]: Parameters<A[K]>): Promise<Awaited<ReturnType<A[K]>>> {
    const id = this.#next++;
    const pending = deferred<unknown>();
    this.#pending.set(id, pending);
    this.#process.send({ id, kind, ask } satisfies Ask);
    return pending.promise as Promise<Awaited<ReturnType<A[K]>>>;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const ended = once(this.#process, 'exit');
    this.#process.disconnect();
    await ended;
  }
}

/** In the program: answers until the bench has had enough, then frees what `close` frees. */
export function answerAsks(answers: Answers, close: () => Promise<void> = async () => {}): void {
  process.on('message', async ({ id, kind, ask }: Ask) => {
    const answered = await answer(async () => answers[kind]!(ask as never));
    if (process.connected) process.send!({ id, ...answered } satisfies Answered);
  });
  process.on('disconnect', () => void close().finally(() => process.exit()));
}
