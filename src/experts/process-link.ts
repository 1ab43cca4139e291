import type { Duplex } from 'node:stream';
import { TurnoutError } from '../errors.js';
import { deferred } from './deferred.js';
import {
  bytesOf,
  encodeFrame,
  type Frame,
  type FrameHeader,
  type FrameMatrix,
  FrameReader,
} from './frames.js';
import type { LaneResult, LaneWork } from './lane.js';
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

export interface Ran extends LaneResult {
  readonly memory: ProcessMemory;
}

interface Answer {
  readonly header: ProcessAnswer;
  readonly payload: ArrayBuffer;
}

/** A request that waits for its answer. */
interface Waiting {
  readonly id: number;
  readonly op: ProcessAnswer['op'];
  /** Of a run: what its answer must hold. */
  readonly work:
    | { readonly matrix: FrameMatrix; readonly batches: number; readonly inFile: boolean }
    | undefined;
  /** When its turn came: it was asked, or the one before it was answered. */
  since: number;
  cancelled: boolean;
  resolve(answer: Answer): void;
  reject(error: Error): void;
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
    const { header } = await this.#ask({ op: 'hold', files: [...files] }, 'held').answer;
    return header as Extract<ProcessAnswer, { op: 'held' }>;
  }

  /** x -> y over its own buffer. `cancel` tells the process that nobody waits any more: it answers unfinished. */
  run(work: LaneWork, hidden: number): { result: Promise<Ran>; cancel(): void } {
    const batches = work.batches.map(({ expert, rows }) => [expert, rows] as [number, number]);
    const rows = work.batches.reduce((sum, batch) => sum + batch.rows, 0);
    const matrix = { rows, cols: hidden, buffer: work.buffer };
    const inFile = this.#toFile(matrix);
    const asked = this.#ask({ op: 'run', batches }, 'ran', { matrix, batches: batches.length, inFile });
    const result = asked.answer.then(({ header, payload }) => {
      const { batches, rows, computeMs, memory } = header as Extract<ProcessAnswer, { op: 'ran' }>;
      return { buffer: inFile ? work.buffer : payload, batches, rows, computeMs, memory };
    });
    return { result, cancel: () => this.#cancel(asked.waiting) };
  }

  /** Puts x into the shared memory, where it is worth it and no call under way has its numbers there. */
  #toFile(matrix: FrameMatrix): boolean {
    const bytes = bytesOf(matrix);
    if (!this.#file || bytes.length < MIN_FILE_BYTES) return false;
    return !this.#waiting.some(({ work }) => work?.inFile) && this.#file.write(bytes);
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
    work?: Waiting['work'],
  ): { waiting: Waiting; answer: Promise<Answer> } {
    if (this.#over) throw this.#over;
    const id = this.#id + 1;
    // Before it counts: a message that is too large is refused and the link goes on.
    const parts = encodeFrame({ ...request, id }, work?.matrix, work?.inFile);
    this.#id = id;
    const { promise, ...settle } = deferred<Answer>();
    const waiting: Waiting = { id, op, work, since: performance.now(), cancelled: false, ...settle };
    this.#waiting.push(waiting);
    this.#write(parts);
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
    // Read before the next call may write there; until y is whole, x stays as it came.
    if (due.work?.inFile && answer.op === 'ran' && !this.#file!.read(bytesOf(due.work.matrix))) {
      throw invalid('ran: expected y in shared memory, got less');
    }
    this.#waiting.shift();
    if (next) next.since = performance.now();
    if (answer.op === 'failed') due.reject(revive(answer.error));
    else due.resolve({ header: answer, payload });
  }
}

function checkRan(
  { tensors, batches, rows, payload }: Extract<ProcessAnswer, { op: 'ran' }>,
  { work, cancelled }: Waiting,
): void {
  const { matrix, batches: asked, inFile } = work!;
  if ((payload === 'file') !== inFile)
    throw invalid(`ran: expected y ${inFile ? 'in shared memory' : 'in the frame'}`);
  const [first, second, ...more] = tensors[0]!.shape;
  if (more.length > 0 || first !== matrix.rows || second !== matrix.cols) {
    throw invalid(`ran: expected y [${matrix.rows}, ${matrix.cols}], got [${tensors[0]!.shape.join(', ')}]`);
  }
  const whole = batches === asked && rows === matrix.rows;
  if (!whole && !(cancelled && batches <= asked && rows <= matrix.rows)) {
    throw invalid(`ran: expected ${asked} batches of ${matrix.rows} rows, got ${batches} of ${rows}`);
  }
}

function invalid(message: string): TurnoutError {
  return new TurnoutError('TURNOUT_FRAME_INVALID', message);
}
