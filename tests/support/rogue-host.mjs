// An expert process that breaks one rule of the link, once: ROGUE_FAULT names it, and it takes the file ROGUE_ONCE away.
import { ftruncateSync, unlinkSync } from 'node:fs';
import { Socket } from 'node:net';
import { encodeFrame } from '../../dist/src/experts/frames.js';
import { Host } from '../../dist/src/experts/host.js';

const { ROGUE_FAULT, ROGUE_ONCE } = process.env;
const options = JSON.parse(process.argv[2]);
const link = new Socket({ fd: 3, readable: true, writable: true });
const send = link.write.bind(link);
const memory = { rss: 0, private: null };
const ran = (id, rows, cols, more = {}) =>
  encodeFrame(
    { id, op: 'ran', batches: 1, rows, computeMs: 1, memory, ...more },
    { rows, cols, buffer: new ArrayBuffer(rows * cols * 4) },
  );

const FAULTS = {
  garbage: () => send(Buffer.from('this is no frame, whatever you think of it')),
  truncated: (parts) => {
    send(parts[0]);
    send(parts[1].subarray(0, 20));
    link.end();
  },
  oversized: () => send(Buffer.from([0xff, 0xff, 0xff, 0xff, 40, 0, 0, 0])),
  replayed: (parts) => {
    for (let i = 0; i < 2; i++) for (const part of parts) send(part);
  },
  id: () => ran(999, 1, 64).forEach((part) => send(part)),
  op: () => send(encodeFrame({ id: 2, op: 'closed' })[0]),
  rows: () => ran(2, 7, 64).forEach((part) => send(part)),
  cols: () => ran(2, 1, 3).forEach((part) => send(part)),
  batches: () => ran(2, 1, 64, { batches: 5 }).forEach((part) => send(part)),
  unfinished: () => ran(2, 1, 64, { batches: 0, rows: 0 }).forEach((part) => send(part)),
  elsewhere: () => ran(2, 256, 64).forEach((part) => send(part)),
  shortened: (parts) => {
    ftruncateSync(4, 1000);
    for (const part of parts) send(part);
  },
  silent: () => {},
  exit: () => process.exit(3),
  abort: () => process.abort(),
  memory: () => process.exit(71),
};

/** Whether the fault is still to be made. */
function once() {
  try {
    unlinkSync(ROGUE_ONCE);
    return true;
  } catch {
    return false;
  }
}

/** The first answer says what it holds; the next ones have a head and y. */
let answers = 0;
const parts = [];
link.write = (part) => {
  if (answers === 0) {
    answers++;
    return send(part);
  }
  parts.push(part);
  // Where y lies in shared memory there is no second part.
  if (parts.length < 2 && !part.includes('file')) return true;
  const answer = parts.splice(0);
  if (once()) FAULTS[ROGUE_FAULT](answer);
  else for (const own of answer) send(own);
  return true;
};

new Host(link, options, (error) => {
  if (error) process.stderr.write(`${error.message}\n`);
  process.exit(error ? 70 : 0);
});
