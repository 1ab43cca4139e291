import { duplexPair } from 'node:stream';
import { Packr } from 'msgpackr';
import { describe, expect, it } from 'vitest';
import { TurnoutError } from '#turnout/errors.js';
import { encodeFrame, FrameReader } from '#turnout/experts/frames.js';
import { Host } from '#turnout/experts/host.js';
import { ProcessLink } from '#turnout/experts/process-link.js';
import { parseAnswer } from '#turnout/experts/process-messages.js';

/*
 * Frames that were changed at random, and bytes that never were frames, from either side of a link. Whatever comes, a
 * side either goes on or ends its link with TURNOUT_FRAME_INVALID; it never throws, hangs or takes wrong numbers.
 */

const FRAMES = 20_000;
const HIDDEN = 4;
const memory = { rss: 1, private: null };
const packr = new Packr({ useRecords: false });

/** Whole numbers below n, the same for the same seed. */
function dice(seed: number): (n: number) => number {
  let state = seed;
  return (n) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
}

const matrix = (rows: number) => ({
  rows,
  cols: HIDDEN,
  buffer: new Float32Array(rows * HIDDEN).fill(3).buffer,
});
const bytes = (parts: Uint8Array[]) => Buffer.concat(parts);

/** A value of any kind that a header may hold. */
function anything(roll: (n: number) => number, depth = 0): unknown {
  const leaf = [
    0,
    -1,
    1.5,
    2 ** 40,
    Number.NaN,
    '',
    'run',
    null,
    true,
    undefined,
    new Date(0),
    Buffer.alloc(3),
  ];
  if (depth > 3 || roll(3) > 0) return leaf[roll(leaf.length)];
  if (roll(2) === 0) return Array.from({ length: roll(4) }, () => anything(roll, depth + 1));
  const keys = ['id', 'op', 'tensors', 'batches', 'shape', '__proto__', 'constructor'];
  return Object.fromEntries(keys.slice(roll(keys.length)).map((key) => [key, anything(roll, depth + 1)]));
}

/** A frame with a header that msgpack can read but no side expects, its lengths right. */
function strangeFrame(roll: (n: number) => number, header: Record<string, unknown>): Buffer {
  const keys = Object.keys(header);
  const changed = roll(4) === 0 ? anything(roll) : { ...header, [keys[roll(keys.length)]!]: anything(roll) };
  const packed = packr.pack(changed);
  const start = Math.ceil((8 + packed.length) / 8) * 8;
  const frame = Buffer.alloc(start + roll(3) * 16);
  frame.writeUInt32LE(frame.length, 0);
  frame.writeUInt32LE(packed.length, 4);
  frame.set(packed, 8);
  return frame;
}

/** What is sent instead of a valid frame. */
function mutate(valid: Buffer, header: Record<string, unknown>, roll: (n: number) => number): Buffer {
  const frame = Buffer.from(valid);
  switch (roll(8)) {
    case 0: // bytes that are others
      for (let i = roll(8); i >= 0; i--) frame[roll(frame.length)] = roll(256);
      return frame;
    case 1: // truncated
      return frame.subarray(0, roll(frame.length));
    case 2: // one length is another
      frame.writeUInt32LE(roll(2) === 0 ? roll(2 ** 32) : roll(64), roll(2) * 4);
      return frame;
    case 3: // replayed
      return Buffer.concat([frame, frame]);
    case 4: // noise
      return Buffer.from(Array.from({ length: 1 + roll(200) }, () => roll(256)));
    case 5: // more than a frame
      return Buffer.concat([frame, Buffer.from(Array.from({ length: 1 + roll(9) }, () => roll(256)))]);
    default:
      return strangeFrame(roll, header);
  }
}

/** Sends in pieces of any size, and ends. */
function send(
  stream: { write(chunk: Buffer): unknown; end(): unknown },
  data: Buffer,
  roll: (n: number) => number,
) {
  for (let at = 0; at < data.length; ) {
    const length = 1 + roll(roll(2) === 0 ? 16 : data.length);
    stream.write(data.subarray(at, at + length));
    at += length;
  }
  stream.end();
}

describe('frames from a process that went mad', () => {
  it(`end their link with an error, or are taken for what they are: ${FRAMES} of them`, async () => {
    const roll = dice(1);
    const outcomes = { answered: 0, invalid: 0, cut: 0 };
    const header = { id: 1, op: 'ran', batches: 1, rows: 2, computeMs: 1, memory };
    const valid = bytes(encodeFrame(header, matrix(2)));
    for (let i = 0; i < FRAMES; i++) {
      const [ours, theirs] = duplexPair();
      let broken: Error | undefined;
      const over = new Promise<void>((resolve) => {
        const link = new ProcessLink(ours, (error) => {
          broken = error;
          link.end(new TurnoutError('TURNOUT_LANE_DIED', error?.message ?? 'the link was cut'));
          resolve();
        });
        const work = { batches: [{ key: 0, x: new Float32Array(2 * HIDDEN) }] };
        link.run(work, HIDDEN).result.then(
          ({ batches, rows }) => {
            outcomes.answered++;
            expect({ batches, rows }).toEqual({ batches: 1, rows: 2 });
          },
          (error: TurnoutError) => {
            expect(error).toBeInstanceOf(Error);
            if (error.code === 'TURNOUT_LANE_DIED') outcomes[broken ? 'invalid' : 'cut']++;
          },
        );
      });
      theirs.resume();
      send(theirs, mutate(valid, { ...header, tensors: [] }, roll), roll);
      await over;
      if (broken) expect(broken).toMatchObject({ code: 'TURNOUT_FRAME_INVALID' });
    }
    // Every kind of end was met, and most frames were refused.
    expect(outcomes.invalid).toBeGreaterThan(FRAMES / 2);
    expect(outcomes.answered).toBeGreaterThan(100);
    expect(outcomes.cut).toBeGreaterThan(1);
  }, 120_000);
});

describe('frames from a carrier that went mad', () => {
  it(`end their link with an error, or are answered with frames: ${FRAMES} of them`, async () => {
    const roll = dice(2);
    const outcomes = { answered: 0, invalid: 0 };
    const options = {
      device: { name: 'cpu', provider: 'cpu' },
      residency: 'packed',
      hidden: HIDDEN,
    } as const;
    const requests: [Record<string, unknown>, Uint8Array[]][] = [
      { id: 1, op: 'run', batches: [[0, 2]] },
      { id: 1, op: 'hold', files: [{ key: 0, path: '/nowhere.onnx', marks: { '/nowhere.onnx': 'none' } }] },
      { id: 1, op: 'close' },
    ].map((header) => [
      { ...header, tensors: [] },
      encodeFrame(header, header.op === 'run' ? matrix(2) : undefined),
    ]);
    for (let i = 0; i < FRAMES; i++) {
      const [ours, theirs] = duplexPair();
      const ended = new Promise<Error | undefined>((resolve) => {
        new Host(ours, options, resolve);
      });
      const reader = new FrameReader(({ header }) => {
        parseAnswer(header);
        outcomes.answered++;
      });
      theirs.on('data', (chunk) => reader.push(chunk));
      const [header, frame] = requests[i % requests.length]!;
      send(theirs, mutate(bytes(frame), header, roll), roll);
      theirs.on('end', () => theirs.destroy());
      const error = await Promise.race([ended, settled(theirs)]);
      if (error) {
        outcomes.invalid++;
        expect(error).toMatchObject({ code: 'TURNOUT_FRAME_INVALID' });
      }
      ours.destroy();
    }
    expect(outcomes.invalid).toBeGreaterThan(FRAMES / 3);
    expect(outcomes.answered).toBeGreaterThan(100);
  }, 120_000);
});

/** Resolves where a host that was not broken has nothing more to say. */
function settled(stream: NodeJS.EventEmitter): Promise<undefined> {
  return new Promise((resolve) => {
    stream.once('close', () => resolve(undefined));
    setTimeout(resolve, 1, undefined);
  });
}
