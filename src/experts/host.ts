import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { TurnoutError } from '../errors.js';
import { bytesIn } from '../tensor.js';
import type { Residency } from './backend.js';
import { checkCpus } from './cpu-list.js';
import type { Device } from './device.js';
import { discard } from './discard.js';
import { encodeFrame, type Frame, type FrameHeader, type FrameMatrix, FrameReader } from './frames.js';
import { type InlineBackend, openInline } from './inline.js';
import { memoryReader } from './memory.js';
import { PayloadFile } from './payload-file.js';
import {
  type HeldExpert,
  type Message,
  type ProcessAnswer,
  type ProcessRequest,
  parseRequest,
} from './process-messages.js';
import { describe } from './remote-error.js';
import { checkMarks } from './versions.js';

/** How a process opens the experts that it is told to hold. */
export interface HostOptions {
  readonly device: Device;
  readonly residency: Residency;
  readonly hidden?: number;
  /** Folder for ONNX Runtime's profiles. */
  readonly profile?: string;
  /** Descriptor of the memory that it shares with its carrier. */
  readonly payloadFile?: number;
}

type Run = Extract<ProcessRequest, { op: 'run' }>;

/**
 * The process side of a link: answers each request, in order, over inline backends of one expert each.
 * `end` is called once with the error that the link cannot go on after, or without one where the other side is gone.
 */
export class Host {
  readonly #link: Duplex;
  readonly #options: HostOptions;
  readonly #end: (error?: Error) => void;
  readonly #file: PayloadFile | undefined;
  readonly #memory = memoryReader();
  readonly #held = new Map<number, InlineBackend>();
  readonly #cancelled = new Set<number>();
  #hidden: number | undefined;
  #room = new Float32Array(0);
  #last = 0;
  #answered = 0;
  #over = false;
  #work: Promise<void> = Promise.resolve();

  constructor(link: Duplex, options: HostOptions, end: (error?: Error) => void) {
    this.#link = link;
    this.#options = options;
    this.#hidden = options.hidden;
    if (options.payloadFile !== undefined) this.#file = new PayloadFile(options.payloadFile);
    this.#end = (error) => {
      if (this.#over) return;
      this.#over = true;
      end(error);
    };
    const reader = new FrameReader(
      (frame) => this.#take(frame),
      (header) => this.#expect(header),
    );
    link.on('data', (chunk: Buffer) => {
      if (this.#over) return;
      try {
        reader.push(chunk);
      } catch (error) {
        this.#end(error as Error);
      }
    });
    link.on('close', () => this.#end());
    link.on('error', () => this.#end());
  }

  /** Before room is made for what comes with it: throws where the request is none, or not the next. */
  #expect(header: FrameHeader): void {
    const request = parseRequest(header);
    const next = this.#last + 1;
    if (request.id !== next) throw invalid(`request: expected id ${next}, got ${request.id}`);
    if (request.op !== 'run') return;
    const rows = request.batches.reduce((sum, [, count]) => sum + count, 0);
    const { shape } = request.tensors[0]!;
    if (shape.length !== 2 || shape[0] !== rows || shape[1] !== this.#hidden) {
      throw invalid(`run: expected x [${rows}, ${this.#hidden}], got [${shape.join(', ')}]`);
    }
  }

  #take({ header, payload }: Frame): void {
    const request = header as ProcessRequest;
    this.#last = request.id;
    if (request.op !== 'cancel') this.#work = this.#work.then(() => this.#answer(request, payload));
    // One whose answer crossed it is over already.
    else if (request.of > this.#answered) this.#cancelled.add(request.of);
  }

  async #answer(request: Exclude<ProcessRequest, { op: 'cancel' }>, payload: ArrayBuffer): Promise<void> {
    try {
      if (request.op === 'hold') await this.#hold(request);
      else if (request.op === 'run') await this.#run(request, payload);
      else await this.#close(request.id);
    } catch (error) {
      if (isOutOfMemory(error)) this.#end(error as Error);
      else this.#send({ id: request.id, op: 'failed', error: describe(error) });
    }
    this.#answered = request.id;
    this.#cancelled.delete(request.id);
  }

  /** Opens what is new before it lets go of what is not wanted any more: when that fails, all stays as it was. */
  async #hold({ id, files }: Extract<ProcessRequest, { op: 'hold' }>): Promise<void> {
    const opened = new Map<number, InlineBackend>();
    try {
      for (const file of files) {
        if (!this.#held.has(file.key)) opened.set(file.key, await this.#open(file));
      }
    } catch (error) {
      await Promise.all([...opened.values()].map((backend) => backend.close()));
      throw error;
    }
    const wanted = new Set(files.map(({ key }) => key));
    for (const [key, backend] of this.#held) {
      if (wanted.has(key)) continue;
      this.#held.delete(key);
      await backend.close();
    }
    for (const [key, backend] of opened) this.#held.set(key, backend);
    this.#send({ id, op: 'held', hidden: this.#hidden!, memory: this.#memory(true) });
  }

  async #open({ key, path, marks }: HeldExpert): Promise<InlineBackend> {
    const { residency, device, profile } = this.#options;
    await checkCpus(device);
    await checkMarks(marks);
    if (profile !== undefined) await mkdir(profile, { recursive: true });
    const backend = await openInline([{ path }], {
      residency,
      device,
      arena: false,
      ...(this.#hidden !== undefined && { hidden: this.#hidden }),
      ...(profile !== undefined && { profile: () => join(profile, `expert-${key}-pid-${process.pid}`) }),
    });
    this.#hidden = backend.hidden;
    await checkMarks(marks);
    return backend;
  }

  async #run({ id, batches, tensors, payload: place, at }: Run, payload: ArrayBuffer): Promise<void> {
    const started = performance.now();
    const [rows, cols] = tensors[0]!.shape as [number, number];
    const numbers = place === 'file' ? this.#inFile(at) : inFrame(payload);
    const done = { batches: 0, rows: 0 };
    for (const [key, count] of batches) {
      if (this.#cancelled.has(id)) break;
      const backend = this.#held.get(key);
      if (!backend) {
        const message = 'the version of the expert that this call began with is gone';
        throw new TurnoutError('TURNOUT_EXPERT_LOST', message, { key });
      }
      const first = done.rows * cols;
      const y = await backend.compute(0, numbers.get(first, count * cols));
      numbers.put(first, y);
      discard(y);
      done.batches++;
      done.rows += count;
    }
    const answer = { id, op: 'ran', ...done, computeMs: performance.now() - started, memory: this.#memory() };
    this.#send(answer as Message<ProcessAnswer>, { rows, cols, buffer: payload }, place === 'file');
  }

  /** Batch by batch, in room that is used again: what is copied is in the cache of the core, and fresh pages cost as much. */
  #inFile(at: number): Numbers {
    const file = this.#file;
    if (!file) throw invalid('run: expected x in the frame, there is no shared memory');
    return {
      get: (first, count) => {
        if (this.#room.length < count) this.#room = new Float32Array(count);
        const x = this.#room.subarray(0, count);
        if (!file.read(bytesIn(x), at + first * 4))
          throw invalid('run: expected x in shared memory, got less');
        return x;
      },
      put: (first, y) => {
        if (!file.write(bytesIn(y), at + first * 4)) throw new Error('the shared memory has no room for y');
      },
    };
  }

  async #close(id: number): Promise<void> {
    await Promise.all([...this.#held.values()].map((backend) => backend.close()));
    this.#held.clear();
    this.#send({ id, op: 'closed' });
    this.#link.end();
  }

  #send(message: Message<ProcessAnswer>, matrix?: FrameMatrix, inFile = false): void {
    if (this.#over) return;
    this.#link.cork();
    for (const part of encodeFrame(message, matrix, inFile)) this.#link.write(part);
    this.#link.uncork();
  }
}

/** x of a run, of which parts are read, and whose place y takes. */
interface Numbers {
  get(first: number, count: number): Float32Array;
  put(first: number, y: Float32Array): void;
}

function inFrame(payload: ArrayBuffer): Numbers {
  const all = new Float32Array(payload);
  return { get: (first, count) => all.subarray(first, first + count), put: (first, y) => all.set(y, first) };
}

/** What allocation failures look like: C++'s in ONNX Runtime, its arenas', and V8's. */
export function isOutOfMemory(error: unknown): boolean {
  return /bad_alloc|failed to allocate memory|out of memory|array buffer allocation failed/i.test(
    String(error),
  );
}

function invalid(message: string): TurnoutError {
  return new TurnoutError('TURNOUT_FRAME_INVALID', message);
}
