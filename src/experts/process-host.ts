import { Socket } from 'node:net';
import { TurnoutError } from '../errors.js';
import { encodeFrame, type Frame, type FrameMatrix, FrameReader } from './frames.js';
import { type InlineBackend, openInline } from './inline.js';
import { type Message, type ProcessAnswer, type ProcessRequest, parseRequest } from './process-messages.js';
import { describe } from './remote-error.js';

/*
 * The program of an expert process: an inline backend behind one link, the descriptor that its carrier handed down. It
 * ends with the link, so it never outlives the other side while it is free to look; a kernel signal does the rest.
 */

/** The descriptor of the link; 0 to 2 are the standard streams. */
const LINK = 3;
/** A carrier that sends what is no frame is not talked to any longer. */
const BAD_LINK = 70;

type Open = Extract<ProcessRequest, { op: 'open' }>;
type Run = Extract<ProcessRequest, { op: 'run' }>;

class Host {
  readonly #link: Socket;
  readonly #cancelled = new Set<number>();
  #backend: InlineBackend | undefined;
  /** Backend number of each expert that this process holds. */
  readonly #places = new Map<number, number>();
  #last = 0;
  #work: Promise<void> = Promise.resolve();

  constructor(link: Socket) {
    this.#link = link;
    const reader = new FrameReader((frame) => this.#take(frame));
    link.on('data', (chunk) => {
      try {
        reader.push(chunk);
      } catch (error) {
        process.stderr.write(`${(error as Error).message}\n`);
        process.exit(BAD_LINK);
      }
    });
    // The other side is gone; whatever it waited for, nobody does any more.
    link.on('close', () => process.exit(0));
    link.on('error', () => process.exit(0));
  }

  #take({ header, payload }: Frame): void {
    const request = parseRequest(header);
    if (request.id !== this.#last + 1) {
      const message = `request: expected id ${this.#last + 1}, got ${request.id}`;
      throw new TurnoutError('TURNOUT_FRAME_INVALID', message, { expected: this.#last + 1, got: request.id });
    }
    this.#last = request.id;
    if (request.op === 'cancel') this.#cancelled.add(request.of);
    else this.#work = this.#work.then(() => this.#answer(request, payload));
  }

  async #answer(request: Exclude<ProcessRequest, { op: 'cancel' }>, payload: ArrayBuffer): Promise<void> {
    try {
      if (request.op === 'open') await this.#open(request);
      else if (request.op === 'run') await this.#run(request, payload);
      else await this.#close(request.id);
    } catch (error) {
      this.#send({ id: request.id, op: 'failed', error: describe(error) });
    }
  }

  async #open({ id, files, residency, hidden, device, profile }: Open): Promise<void> {
    for (const [place, { expert }] of files.entries()) this.#places.set(expert, place);
    this.#backend = await openInline(files, {
      residency,
      device,
      ...(hidden === null ? {} : { hidden }),
      ...(profile === null ? {} : { profile }),
    });
    this.#send({ id, op: 'opened', hidden: this.#backend.hidden });
  }

  async #run({ id, batches, tensors }: Run, payload: ArrayBuffer): Promise<void> {
    const started = performance.now();
    const backend = this.#check(batches, tensors[0]!.shape);
    const done = { batches: 0, rows: 0 };
    for (const [expert, rows] of batches) {
      if (this.#cancelled.has(id)) break;
      const view = new Float32Array(payload, done.rows * backend.hidden * 4, rows * backend.hidden);
      view.set(await backend.compute(this.#places.get(expert)!, view));
      done.batches++;
      done.rows += rows;
    }
    const [rows, cols] = tensors[0]!.shape as [number, number];
    this.#cancelled.delete(id);
    this.#send(
      { id, op: 'ran', ...done, computeMs: performance.now() - started },
      { rows, cols, buffer: payload },
    );
  }

  #check(batches: Run['batches'], shape: readonly number[]): InlineBackend {
    const rows = batches.reduce((sum, [, count]) => sum + count, 0);
    const unknown = batches.find(([expert]) => !this.#places.has(expert));
    const hidden = this.#backend?.hidden;
    if (!this.#backend || unknown || shape.length !== 2 || shape[0] !== rows || shape[1] !== hidden) {
      const got = unknown ? `expert ${unknown[0]}` : `[${shape.join(', ')}]`;
      const message = `run: expected experts ${[...this.#places.keys()].join(', ')} and x [${rows}, ${hidden}], got ${got}`;
      throw new TurnoutError('TURNOUT_FRAME_INVALID', message, { rows, hidden, shape });
    }
    return this.#backend;
  }

  async #close(id: number): Promise<void> {
    await this.#backend?.close();
    this.#send({ id, op: 'closed' });
    this.#link.end();
  }

  #send(message: Message<ProcessAnswer>, matrix?: FrameMatrix): void {
    this.#link.cork();
    for (const part of encodeFrame(message, matrix)) this.#link.write(part);
    this.#link.uncork();
  }
}

new Host(new Socket({ fd: LINK, readable: true, writable: true }));
