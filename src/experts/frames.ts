import { Packr } from 'msgpackr';
import { TurnoutError } from '../errors.js';
import { type Checked, exactly, list, natural, record, text } from './wire.js';

/*
 * What a carrier thread and an expert process say to each other. A frame is
 *
 *   u32  bytes of the frame, this word included
 *   u32  bytes of the header
 *   the header, msgpack: {id, op, tensors, ...}, then zeros up to a multiple of 8
 *   the tensors, raw and little-endian, each at a multiple of 8
 */

export const FRAME_LIMITS = {
  /** Room for the paths of thousands of experts; a layer call names its batches in some 10 bytes each. */
  MAX_HEADER_BYTES: 2 ** 22,
  /** The rows of the largest call of one lane; it fits the u32 and an ArrayBuffer. */
  MAX_FRAME_BYTES: 2 ** 31,
  /** A call has one; others leave room for what comes. */
  MAX_TENSORS: 16,
  /** Rows and columns; others leave room for what comes. */
  MAX_DIMS: 4,
} as const;

const PREFIX = 8;
const ALIGN = 8;
const ELEMENT_BYTES = { float32: 4 } as const;

/** Where a tensor lies in the payload; `offset` and `length` in bytes. */
const tensor = record({
  dtype: exactly('float32'),
  shape: list(natural, { max: FRAME_LIMITS.MAX_DIMS }),
  offset: natural,
  length: natural,
});
export const NO_TENSORS = list(tensor, { max: 0 });
/** One tensor; what its shape must be the receiver knows. */
export const MATRIX = list(tensor, { min: 1, max: 1 });

const frameHeader = record(
  { id: natural, op: text, tensors: list(tensor, { max: FRAME_LIMITS.MAX_TENSORS }) },
  { open: true },
);
export type FrameHeader = Checked<typeof frameHeader>;

/** A frame that was read. The header may hold more than is checked here; the payload is the receiver's to keep. */
export interface Frame {
  readonly header: FrameHeader;
  readonly payload: ArrayBuffer;
}

// Records would carry state from frame to frame; without them each frame is read alone.
const packr = new Packr({ useRecords: false, variableMapSize: true });

/** One float32 matrix as the payload of a frame. */
export interface FrameMatrix {
  readonly rows: number;
  readonly cols: number;
  readonly buffer: ArrayBuffer;
}

/** A message as the parts of one write: the head, and the payload as it lies in memory. */
export function encodeFrame(message: { id: number; op: string }, matrix?: FrameMatrix): Uint8Array[] {
  const tensors = matrix ? [metaOf(matrix)] : [];
  const header = packr.pack({ ...message, tensors });
  const start = alignUp(PREFIX + header.length);
  const payload = matrix ? [new Uint8Array(matrix.buffer, 0, tensors[0]!.length)] : [];
  const total = start + (tensors[0]?.length ?? 0);
  if (header.length > FRAME_LIMITS.MAX_HEADER_BYTES)
    throw invalid('header bytes', FRAME_LIMITS.MAX_HEADER_BYTES, header.length);
  if (total > FRAME_LIMITS.MAX_FRAME_BYTES) throw invalid('frame bytes', FRAME_LIMITS.MAX_FRAME_BYTES, total);
  const head = Buffer.alloc(start);
  head.writeUInt32LE(total, 0);
  head.writeUInt32LE(header.length, 4);
  head.set(header, PREFIX);
  return [head, ...payload];
}

function metaOf({ rows, cols }: FrameMatrix) {
  return { dtype: 'float32', shape: [rows, cols], offset: 0, length: rows * cols * 4 } as const;
}

/**
 * Bytes as they come -> frames. Lengths are checked before anything is allocated. After an error the stream has no
 * meaning any more: the link must be closed.
 */
export class FrameReader {
  readonly #onFrame: (frame: Frame) => void;
  readonly #onHeader: (header: FrameHeader) => void;
  #prefix = Buffer.alloc(PREFIX);
  #head: Buffer | undefined;
  #payload: Buffer | undefined;
  #header: FrameHeader | undefined;
  /** Bytes of the part under way that have come. */
  #got = 0;

  /** `onHeader` is asked before a payload is allocated: it throws where the frame is not one that may come. */
  constructor(onFrame: (frame: Frame) => void, onHeader: (header: FrameHeader) => void = () => {}) {
    this.#onFrame = onFrame;
    this.#onHeader = onHeader;
  }

  /** Whether a frame has begun and not ended. */
  get partial(): boolean {
    return this.#got > 0 || this.#head !== undefined;
  }

  /** Throws TURNOUT_FRAME_INVALID, and what the receiver of a frame throws. */
  push(chunk: Uint8Array): void {
    let at = 0;
    do {
      const part = this.#payload ?? this.#head ?? this.#prefix;
      const count = Math.min(part.length - this.#got, chunk.length - at);
      part.set(chunk.subarray(at, at + count), this.#got);
      this.#got += count;
      at += count;
      while (this.#got === (this.#payload ?? this.#head ?? this.#prefix).length) this.#next();
    } while (at < chunk.length);
  }

  /** The part under way is complete: goes on to the next. */
  #next(): void {
    this.#got = 0;
    if (this.#payload) {
      const frame = { header: this.#header!, payload: this.#payload.buffer as ArrayBuffer };
      this.#head = undefined;
      this.#payload = undefined;
      this.#onFrame(frame);
    } else if (this.#head) {
      const length = this.#prefix.readUInt32LE(0) - PREFIX - this.#head.length;
      this.#header = readHeader(this.#head, this.#prefix.readUInt32LE(4));
      checkTensors(this.#header, length);
      this.#onHeader(this.#header);
      this.#payload = Buffer.from(new ArrayBuffer(length));
    } else {
      this.#head = Buffer.alloc(headBytes(this.#prefix));
    }
  }
}

/** Bytes from the prefix to the payload; throws where the two lengths cannot be. */
function headBytes(prefix: Buffer): number {
  const total = prefix.readUInt32LE(0);
  const header = prefix.readUInt32LE(4);
  if (header === 0 || header > FRAME_LIMITS.MAX_HEADER_BYTES) {
    throw invalid('header bytes', FRAME_LIMITS.MAX_HEADER_BYTES, header);
  }
  const end = alignUp(PREFIX + header);
  if (total > FRAME_LIMITS.MAX_FRAME_BYTES) throw invalid('frame bytes', FRAME_LIMITS.MAX_FRAME_BYTES, total);
  if (total < end) {
    const message = `frame: expected at least ${end} bytes for a header of ${header}, got ${total}`;
    throw new TurnoutError('TURNOUT_FRAME_INVALID', message, { total, header });
  }
  return end - PREFIX;
}

function readHeader(bytes: Buffer, length: number): FrameHeader {
  let value: unknown;
  try {
    value = packr.unpack(bytes.subarray(0, length));
  } catch (cause) {
    const message = `frame header: expected msgpack, got ${(cause as Error).message}`;
    throw new TurnoutError('TURNOUT_FRAME_INVALID', message, {}, { cause });
  }
  return frameHeader(value, 'frame header');
}

/** Tensors fill the payload one after the other, each with the bytes that its shape says. */
function checkTensors({ tensors }: FrameHeader, payload: number): void {
  let end = 0;
  for (const [i, { dtype, shape, offset, length }] of tensors.entries()) {
    const bytes = shape.reduce((product, dim) => product * dim, ELEMENT_BYTES[dtype]);
    if (offset !== alignUp(end) || length !== bytes) {
      const message = `frame tensor ${i}: expected ${bytes} bytes at ${alignUp(end)} for [${shape.join(', ')}], got ${length} at ${offset}`;
      throw new TurnoutError('TURNOUT_FRAME_INVALID', message, { tensor: i, shape, offset, length });
    }
    end = offset + length;
  }
  if (end !== payload) {
    const message = `frame: expected a payload of ${end} bytes, got ${payload}`;
    throw new TurnoutError('TURNOUT_FRAME_INVALID', message, { expected: end, got: payload });
  }
}

function alignUp(bytes: number): number {
  return Math.ceil(bytes / ALIGN) * ALIGN;
}

function invalid(what: string, limit: number, got: number): TurnoutError {
  const message = `${what}: expected 1 to ${limit}, got ${got}`;
  return new TurnoutError('TURNOUT_FRAME_INVALID', message, { limit, got });
}
