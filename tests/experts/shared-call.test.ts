import { describe, expect, it } from 'vitest';
import { copyValues, SharedCall } from '#turnout/experts/shared-call.js';

const SIZES = { pieces: 3, rows: 7, sources: 4, hidden: 3, scaled: true };
const PIECES = [
  { key: 7, first: 0, rows: 2 },
  { key: 7, first: 2, rows: 1 },
  { key: 9, first: 3, rows: 4 },
];

/** Memory of another call lies there still. */
function makeCall(): SharedCall {
  const memory = new SharedArrayBuffer(SharedCall.bytes(SIZES));
  new Uint8Array(memory).fill(0xff);
  return SharedCall.layOut({ memory, ...SIZES }, PIECES);
}

describe('the memory of a call', () => {
  it('tells whoever it is handed to what its pieces are, and their rows', () => {
    const call = makeCall();
    copyValues(
      Float32Array.from({ length: 12 }, (_, i) => i),
      call.x.data,
    );
    call.indexes.set([3, 0, 1, 2, 2, 2, 2]);
    call.scales.set([1, 2, 1, 1, 1, 1, 10]);
    const other = new SharedCall(call.handle);
    expect(PIECES.map((_, i) => other.piece(i))).toEqual(PIECES);
    const x = new Float32Array(12);
    other.gather(other.piece(0), x.subarray(0, 6));
    expect([...x.subarray(0, 6)]).toEqual([9, 10, 11, 0, 2, 4]);
    other.gather(other.piece(2), x);
    expect([...x]).toEqual([6, 7, 8, 6, 7, 8, 6, 7, 8, 60, 70, 80]);
  });

  it('has room for y of each piece beside x', () => {
    const call = makeCall();
    call.x.data.fill(1);
    call.indexes.fill(0);
    for (const piece of PIECES) call.y(piece).fill(piece.first);
    expect([...call.y({ first: 0, rows: 7 })]).toEqual([0, 0, 0, 0, 0, 0, 2, 2, 2, ...new Array(12).fill(3)]);
    expect([...call.indexes]).toEqual(new Array(7).fill(0));
    expect([...call.x.data]).toEqual(new Array(12).fill(1));
  });

  it('gives each piece to one task, and back where that one does no more', () => {
    const call = makeCall();
    expect([call.take(0, 1), call.take(0, 2), call.take(1, 2), call.take(2, 1)]).toEqual([
      true,
      false,
      true,
      true,
    ]);
    call.whole(0);
    expect([call.isWhole(0), call.isWhole(1)]).toEqual([true, false]);
    expect(call.release(1)).toEqual([2]);
    expect([call.isFree(0), call.isFree(1), call.isFree(2)]).toEqual([false, false, true]);
    expect([call.take(0, 3), call.take(2, 3)]).toEqual([false, true]);
  });

  it('gives nothing of a call that failed', () => {
    const call = makeCall();
    call.fail();
    expect(call.take(0, 1)).toBe(false);
  });
});
