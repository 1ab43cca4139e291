import { type FrameHeader, HERE, HERE_OR_FILE, MATRIX, NO_TENSORS } from './frames.js';
import type { RemoteError } from './remote-error.js';
import {
  byOp,
  type Check,
  type Checked,
  dictionary,
  duration,
  exactly,
  list,
  natural,
  orNull,
  pair,
  positive,
  record,
  text,
} from './wire.js';

/*
 * The conversation over one link. The carrier asks, numbering from 1; the process answers each request once, in order.
 *
 *   hold    the experts to hold from now on    -> held     H, memory
 *   run     batches, x [rows, H]               -> ran      y [rows, H]
 *   cancel  nobody waits for run `of` any more    (no answer)
 *   close   end after what came before         -> closed, and the process ends
 *
 * Any of them but cancel may be answered with `failed` and an error.
 */

/** An expert as a process holds it. */
const heldExpert = record({
  /** Names this version of the expert in `run`. */
  key: natural,
  path: text,
  /** The marks of the files when the version was taken in (see versions.ts): other files are not this version. */
  marks: dictionary(text),
});

/** Bytes; `private` are those that no other process shares, where the system tells. */
const memory = record({ rss: natural, private: orNull(natural) });

const message = { id: natural, tensors: NO_TENSORS, payload: HERE };
const matrixMessage = { id: natural, tensors: MATRIX, payload: HERE_OR_FILE };

const request = byOp({
  hold: record({ ...message, op: exactly('hold'), files: list(heldExpert) }),
  run: record({
    ...matrixMessage,
    op: exactly('run'),
    /** [key, rows] in the order of the rows of x. */
    batches: list(pair(natural, positive)),
    /** Byte of the shared memory where x begins, and y: 0 where they are in the frames. */
    at: natural,
  }),
  cancel: record({ ...message, op: exactly('cancel'), of: natural }),
  close: record({ ...message, op: exactly('close') }),
});

/** Only its message is relied on. */
const remoteError = record({ message: text }, { open: true }) as Check<RemoteError>;

const answer = byOp({
  held: record({ ...message, op: exactly('held'), hidden: positive, memory }),
  ran: record({
    ...matrixMessage,
    op: exactly('ran'),
    batches: natural,
    rows: natural,
    computeMs: duration,
    memory,
  }),
  closed: record({ ...message, op: exactly('closed') }),
  failed: record({ ...message, op: exactly('failed'), error: remoteError }),
});

export type ProcessRequest = Checked<typeof request>;
export type ProcessAnswer = Checked<typeof answer>;
export type ProcessMemory = Checked<typeof memory>;
export type HeldExpert = Checked<typeof heldExpert>;
/** A message without what the frame adds. */
export type Message<M extends FrameHeader> = M extends FrameHeader ? Omit<M, 'tensors' | 'payload'> : never;

export const parseRequest = (header: unknown): ProcessRequest => request(header, 'request');
export const parseAnswer = (header: unknown): ProcessAnswer => answer(header, 'answer');
