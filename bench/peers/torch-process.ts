import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const PROGRAM = fileURLToPath(new URL('../../../bench/peers/torch_moe.py', import.meta.url));
/** The Python of the path, then that of the system: distributions put PyTorch there. */
const PYTHONS = ['python3', '/usr/bin/python3'];

const MOST_SAID = 2000;

/** Python with PyTorch in it: one question at a time, one answer to each. */
export class TorchProcess implements AsyncDisposable {
  readonly #process: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  /** The end of what it wrote to standard error: why it ended. */
  #said = '';

  private constructor(
    process: ChildProcess,
    lines: AsyncIterator<string>,
    readonly version: string,
  ) {
    this.#process = process;
    this.#lines = lines;
    process.stderr!.on('data', (data) => {
      this.#said = `${this.#said}${data}`.slice(-MOST_SAID);
    });
  }

  /** The first Python of `pythons` that has PyTorch; the reasons of all of them where none has. */
  static async start(
    threads: number,
    pythons: readonly string[] = PYTHONS,
  ): Promise<TorchProcess | { readonly missing: string }> {
    const reasons: string[] = [];
    for (const python of pythons) {
      const env = { ...process.env, OMP_NUM_THREADS: String(threads), OMP_WAIT_POLICY: 'PASSIVE' };
      const child = spawn(python, [PROGRAM], { env, stdio: 'pipe' });
      const failed = new Promise<string>((resolve) => child.once('error', (error) => resolve(error.message)));
      // A child that is gone tells so by the end of its answers.
      child.stdin!.on('error', () => {});
      const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
      const first = await Promise.race([failed, lines.next()]);
      const said = typeof first !== 'string' && !first.done ? JSON.parse(first.value) : undefined;
      if (said?.torch) return new TorchProcess(child, lines, said.torch);
      reasons.push(`${python}: ${typeof first === 'string' ? first : (said?.error ?? 'it ended')}`);
    }
    return { missing: reasons.join('; ') };
  }

  async ask<A>(question: Readonly<Record<string, unknown>>): Promise<A> {
    this.#process.stdin!.write(`${JSON.stringify(question)}\n`);
    const line = await this.#lines.next();
    if (line.done) throw new Error(`PyTorch ended: ${this.#said.trim() || 'without a reason'}`);
    return JSON.parse(line.value);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const ended = once(this.#process, 'exit');
    this.#process.stdin!.end();
    await ended;
  }
}
