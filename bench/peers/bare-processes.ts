import type { ChildProcess } from 'node:child_process';
import { closeSync } from 'node:fs';
import type { Duplex } from 'node:stream';
import { fileURLToPath } from 'node:url';
import type { ExpertFile, Residency } from '../../src/experts/backend.js';
import { parseDevice } from '../../src/experts/device.js';
import { openPayloadFile, PayloadFile } from '../../src/experts/payload-file.js';
import { LINK, spawnHost } from '../../src/experts/spawn.js';
import { bytesIn } from '../../src/tensor.js';

/** What a bare process is told, one line of JSON each; it answers each with a line. */
export type ProcessCommand =
  | { readonly op: 'open'; readonly files: readonly string[]; readonly residency: Residency }
  | { readonly op: 'load'; readonly program: ProcessProgram }
  | { readonly op: 'run' };

/** The calls of one process in a layer call. */
export interface ProcessProgram {
  /** X: rows of x in the shared memory, from its begin on; y of all calls follows. */
  readonly rows: number;
  readonly calls: readonly ProcessCall[];
}

/** Rows of x for one expert, and the row of y with which its outputs begin. */
export interface ProcessCall {
  readonly expert: number;
  readonly rows: readonly number[];
  readonly first: number;
}

const PROGRAM = fileURLToPath(new URL('./bare-process.js', import.meta.url));

/**
 * Expert processes with nothing around them: one on each device, with all experts, told beforehand what to call. A run
 * is x written to memory that all share, one line to each process and one from each, and y read from there. Undefined
 * where the system has no such memory.
 */
export async function openBareProcesses(
  files: readonly ExpertFile[],
  devices: readonly string[],
  residency: Residency,
): Promise<BareProcesses | undefined> {
  const fd = openPayloadFile();
  if (fd === undefined) return undefined;
  const children = devices.map((name) =>
    spawnHost({ device: parseDevice(name), residency, program: PROGRAM }, fd),
  );
  const processes = new BareProcesses(children, fd);
  try {
    await processes.open(files, residency);
    return processes;
  } catch (error) {
    await processes[Symbol.asyncDispose]();
    throw error;
  }
}

export class BareProcesses implements AsyncDisposable {
  readonly #children: readonly BareProcess[];
  readonly #fd: number;
  readonly #memory: PayloadFile;

  constructor(children: readonly ChildProcess[], fd: number) {
    this.#children = children.map((child) => new BareProcess(child));
    this.#fd = fd;
    this.#memory = new PayloadFile(fd);
  }

  get count(): number {
    return this.#children.length;
  }

  async open(files: readonly ExpertFile[], residency: Residency): Promise<void> {
    await this.#all({ op: 'open', files: files.map(({ path }) => path), residency });
  }

  /** One program for each process. */
  async load(programs: readonly ProcessProgram[]): Promise<void> {
    await Promise.all(programs.map((program, i) => this.#children[i]!.ask({ op: 'load', program })));
  }

  /** x [X, H] -> y [A, H] of the programs that were loaded. */
  async run(x: Float32Array, y: Float32Array): Promise<void> {
    if (!this.#memory.write(bytesIn(x))) throw new Error('bare processes: no room for x');
    await this.#all({ op: 'run' });
    if (!this.#memory.read(bytesIn(y), x.byteLength)) throw new Error('bare processes: y is not there');
  }

  async #all(command: ProcessCommand): Promise<void> {
    await Promise.all(this.#children.map((child) => child.ask(command)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#children.map((child) => child.end()));
    closeSync(this.#fd);
  }
}

class BareProcess {
  readonly #child: ChildProcess;
  readonly #link: Duplex;
  readonly #gone: Promise<unknown>;
  #answered: (() => void) | undefined;

  constructor(child: ChildProcess) {
    this.#child = child;
    this.#link = child.stdio[LINK] as Duplex;
    this.#link.on('data', () => this.#answered?.());
    this.#link.on('error', () => {});
    child.stderr!.resume();
    this.#gone = new Promise((resolve) => child.once('exit', resolve));
  }

  async ask(command: ProcessCommand): Promise<void> {
    const answer = new Promise<'answered'>((resolve) => {
      this.#answered = () => resolve('answered');
    });
    this.#link.write(`${JSON.stringify(command)}\n`);
    const outcome = await Promise.race([answer, this.#gone]);
    if (outcome !== 'answered') throw new Error(`bare process: ended with ${outcome}`);
  }

  async end(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#gone;
  }
}
