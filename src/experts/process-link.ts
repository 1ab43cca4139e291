import type { Duplex } from 'node:stream';
import { TurnoutError } from '../errors.js';
import { bytesIn } from '../tensor.js';
import { deferred } from './deferred.js';
import { encodeFrame, type Frame, type FrameHeader, type FrameMatrix, FrameReader } from './frames.js';
import type { LaneResult } from './lane.js';
import type { StopFlag } from './limits.js';
import { MIN_FILE_BYTES, type PayloadFile } from './payload-file.js';
import {
  type HeldExpert,
  type Message,
  type ProcessAnswer,
  type ProcessMemory,
  type ProcessRequest,
  parseAnswer,
} from './process-messages.js';
import { revive } from './remote-error.js';

/** What a process says once it holds its experts. */
export interface Held {
  readonly hidden: number;
  readonly memory: ProcessMemory;
}

/** Rows of some experts, as a process computes them together. */
export interface LinkWork {
  /** x [n, H] of each, whose place y takes; it may be shared with other threads. */
  readonly batches: readonly { readonly key: number; readonly x: Float32Array }[];
  /** Absent where nothing can stop the call. */
  readonly stop?: StopFlag;
}

/** `batches` are fewer than were asked for where it was stopped: there is no y then. */
export interface Ran extends LaneResult {
  readonly memory: ProcessMemory;
}

/** A request that waits for its answer. */
interface Waiting {
  readonly id: number;
  readonly op: ProcessAnswer['op'];
  readonly run: Run | undefined;
  /** When its turn came: it was asked, or the one before it was answered. */
  since: number;
  cancelled: boolean;
  resolve(answer: ProcessAnswer): void;
  reject(error: Error): void;
}

/** What the answer of a run must hold, and where y goes. */
interface Run {
  readonly rows: number;
  readonly cols: number;
  readonly parts: readonly Float32Array[];
  /** Byte of the shared memory where it begins; undefined where it is in the frames. */
  readonly at: number | undefined;
}

type Unnumbered<M> = M extends unknown ? Omit<M, 'id'> : never;
type Request = Unnumbered<Message<Exclude<ProcessRequest, { op: 'cancel' }>>>;

/**
 * The carrier side of a link: asks, and holds the process to its rules. The first frame that breaks one ends the link:
 * `onBroken` is called once, with the error, or without one where the other side is gone. The requests that wait then
 * are given up by `end`.
 */
export class ProcessLink {
  readonly #stream: Duplex;
  readonly #file: PayloadFile | undefined;
  readonly #waiting: Waiting[] = [];
  #id = 0;
  #over: Error | undefined;

  /** `file` is the memory that the process shares with this side. */
  constructor(stream: Duplex, onBroken: (error?: Error) => void, file?: PayloadFile) {
    this.#stream = stream;
    this.#file = file;
    let broken = false;
    const breakOff = (error?: Error) => {
      if (broken) return;
      broken = true;
      stream.destroy();
      onBroken(error);
    };
    const reader = new FrameReader(
      (frame) => this.#take(frame),
      (header) => this.#expect(header),
    );
    stream.on('data', (chunk: Buffer) => {
      try {
        if (!broken) reader.push(chunk);
      } catch (error) {
        breakOff(error as Error);
      }
    });
    const cut = () => breakOff(reader.partial ? invalid('answer: it ends within a frame') : undefined);
    stream.on('end', cut);
    stream.on('close', cut);
    stream.on('error', () => breakOff());
  }

  /** What is due, and the milliseconds that it has been waited for; undefined where nothing is. */
  get due(): { readonly op: ProcessAnswer['op']; readonly ms: number } | undefined {
    const [first] = this.#waiting;
    return first && { op: first.op, ms: performance.now() - first.since };
  }

  /** Has the process hold these experts and no others. Throws why it cannot, and the error of `end`. */
  async hold(files: readonly HeldExpert[]): Promise<Held> {
    const answer = await this.#ask({ op: 'hold', files: [...files] }, 'held').answer;
    return answer as Extract<ProcessAnswer, { op: 'held' }>;
  }

  /** x -> y in its place. `cancel` tells the process that nobody waits any more: it answers unfinished. */
  run({ batches }: LinkWork, cols: number): { result: Promise<Ran>; cancel(): void } {
    const counts = batches.map(({ key, x }) => [key, x.length / cols] as [number, number]);
    const rows = counts.reduce((sum, [, count]) => sum + count, 0);
    const parts = batches.map(({ x }) => x);
    const at = this.#toFile(parts, rows * cols * FLOAT_BYTES);
    const request = { op: 'run', batches: counts, at: at ?? 0 } as const;
    const asked = this.#ask(request, 'ran', { rows, cols, parts, at });
    const result = asked.answer.then((answer) => {
      const { batches, rows, computeMs, memory } = answer as Extract<ProcessAnswer, { op: 'ran' }>;
      return { batches, rows, computeMs, memory };
    });
    return { result, cancel: () => this.#cancel(asked.waiting) };
  }

  /** Puts x into the shared memory, where it is worth it, before or behind the numbers of runs under way: at which byte. */
  #toFile(parts: readonly Float32Array[], bytes: number): number | undefined {
    if (!this.#file || bytes < MIN_FILE_BYTES) return undefined;
    const used = this.#waiting.flatMap(({ run }) => (run?.at === undefined ? [] : [{ ...run, at: run.at }]));
    const at = bytes <= Math.min(...used.map((run) => run.at)) ? 0 : Math.max(...used.map(endOf));
    let end = at;
    for (const part of parts) {
      if (!this.#file.write(bytesIn(part), end)) return undefined;
      end += part.byteLength;
    }
    return at;
  }

  /** Has the process end after what it was asked before. */
  async close(): Promise<void> {
    await this.#ask({ op: 'close' }, 'closed').answer;
  }

  /** Gives up: every request that waits, and every later one, fails with this error. */
  end(error: Error): void {
    this.#over ??= error;
    for (const { reject } of this.#waiting.splice(0)) reject(this.#over);
  }

  #ask(
    request: Request,
    op: ProcessAnswer['op'],
    run?: Run,
  ): { waiting: Waiting; answer: Promise<ProcessAnswer> } {
    if (this.#over) throw this.#over;
    const id = this.#id + 1;
    // Before it counts: a message that is too large is refused and the link goes on.
    const frame = encodeFrame({ ...request, id }, run && matrixOf(run), run?.at !== undefined);
    this.#id = id;
    const { promise, ...settle } = deferred<ProcessAnswer>();
    const waiting: Waiting = { id, op, run, since: performance.now(), cancelled: false, ...settle };
    this.#waiting.push(waiting);
    this.#write(frame);
    return { waiting, answer: promise };
  }

  #cancel(run: Waiting): void {
    if (run.cancelled || !this.#waiting.includes(run)) return;
    run.cancelled = true;
    this.#id++;
    const message: Message<ProcessRequest> = { id: this.#id, op: 'cancel', of: run.id };
    this.#write(encodeFrame(message));
  }

  #write(parts: readonly Uint8Array[]): void {
    this.#stream.cork();
    for (const part of parts) this.#stream.write(part);
    this.#stream.uncork();
  }

  /** Before room is made for what comes with it: throws where it is no answer, or not the one that is due. */
  #expect(header: FrameHeader): void {
    const answer = parseAnswer(header);
    const [due] = this.#waiting;
    if (!due || answer.id !== due.id || (answer.op !== due.op && answer.op !== 'failed')) {
      throw invalid(
        `answer: expected ${due ? `${due.op} ${due.id}` : 'none'}, got ${answer.op} ${answer.id}`,
      );
    }
    if (answer.op === 'ran') checkRan(answer, due);
  }

  #take({ header, payload }: Frame): void {
    const answer = header as ProcessAnswer;
    const [due, next] = this.#waiting as [Waiting, ...Waiting[]];
    // Read before the next call may write there.
    if (due.run && answer.op === 'ran' && answer.batches === due.run.parts.length)
      this.#read(due.run, payload);
    this.#waiting.shift();
    if (next) next.since = performance.now();
    if (answer.op === 'failed') due.reject(revive(answer.error));
    else due.resolve(answer);
  }

  #read({ parts, at }: Run, payload: ArrayBuffer): void {
    let from = at ?? 0;
    for (const part of parts) {
      if (at === undefined) part.set(new Float32Array(payload, from, part.length));
      else if (!this.#file!.read(bytesIn(part), from))
        throw invalid('ran: expected y in shared memory, got less');
      from += part.byteLength;
    }
  }
}

const FLOAT_BYTES = Float32Array.BYTES_PER_ELEMENT;

/** Byte of the shared memory behind a run. */
function endOf({ rows, cols, at }: Run & { at: number }): number {
  return at + rows * cols * FLOAT_BYTES;
}

/** x for the frame; nothing where it is in the shared memory. */
function matrixOf({ rows, cols, parts, at }: Run): FrameMatrix {
  const x = new Float32Array(at === undefined ? rows * cols : 0);
  if (at === undefined) {
    let first = 0;
    for (const part of parts) {
      x.set(part, first);
      first += part.length;
    }
  }
  return { rows, cols, buffer: x.buffer };
}

function checkRan(
  { tensors, batches, rows, payload }: Extract<ProcessAnswer, { op: 'ran' }>,
  { run, cancelled }: Waiting,
): void {
  const asked = run!;
  const inFile = asked.at !== undefined;
  if ((payload === 'file') !== inFile)
    throw invalid(`ran: expected y ${inFile ? 'in shared memory' : 'in the frame'}`);
  const [first, second, ...more] = tensors[0]!.shape;
  if (more.length > 0 || first !== asked.rows || second !== asked.cols) {
    throw invalid(`ran: expected y [${asked.rows}, ${asked.cols}], got [${tensors[0]!.shape.join(', ')}]`);
  }
  const whole = batches === asked.parts.length && rows === asked.rows;
  if (!whole && !(cancelled && batches <= asked.parts.length && rows <= asked.rows)) {
    throw invalid(
      `ran: expected ${asked.parts.length} batches of ${asked.rows} rows, got ${batches} of ${rows}`,
    );
  }
}

function invalid(message: string): TurnoutError {
  return new TurnoutError('TURNOUT_FRAME_INVALID', message);
}
