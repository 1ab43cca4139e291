import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { SharedCall } from '#turnout/experts/shared-call.js';

const HIDDEN = 3;
const PIECES = [
  { key: 7, first: 0, rows: 2 },
  { key: 7, first: 2, rows: 1 },
  { key: 9, first: 3, rows: 4 },
];

function makeCall(): SharedCall {
  const bytes = SharedCall.bytes({ pieces: PIECES.length, rows: 7, hidden: HIDDEN });
  const memory = new SharedArrayBuffer(bytes);
  new Uint8Array(memory).fill(0xff);
  return SharedCall.layOut(memory, PIECES, HIDDEN);
}

describe('the memory of a call', () => {
  it('tells whoever it is handed to what its pieces are, and where', () => {
    const call = makeCall();
    const other = new SharedCall(call.handle);
    expect(PIECES.map((_, i) => other.piece(i))).toEqual(PIECES);
    call.rows({ first: 0, rows: 7 }).set(Array.from({ length: 7 * HIDDEN }, (_, i) => i));
    expect([...other.rows(PIECES[1]!)]).toEqual([6, 7, 8]);
  });

  it('gives each piece to one task, and back where that one does no more', () => {
    const call = makeCall();
    call.ready(7);
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

  it('lets a task wait for the rows of its piece', async () => {
    const call = makeCall();
    const module = new URL('../../dist/src/experts/shared-call.js', import.meta.url).href;
    const script = `
      import { parentPort, workerData } from 'node:worker_threads';
      const { SharedCall } = await import(${JSON.stringify(module)});
      const call = new SharedCall(workerData);
      parentPort.postMessage('begun');
      const taken = call.take(2, 1);
      parentPort.postMessage({ taken, x: call.rows(call.piece(2))[0] });`;
    const url = new URL(`data:text/javascript,${encodeURIComponent(script)}`);
    const worker = new Worker(url, { workerData: call.handle });
    await once(worker, 'message');
    const answered = once(worker, 'message');
    call.ready(3);
    call.rows(PIECES[2]!).fill(5);
    call.ready(7);
    expect(await answered).toEqual([{ taken: true, x: 5 }]);
  });
});
