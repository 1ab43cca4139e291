import { readSync, writeSync } from 'node:fs';
import { discard } from '../../src/experts/discard.js';
import { type InlineBackend, openInline } from '../../src/experts/inline.js';
import { PayloadFile } from '../../src/experts/payload-file.js';
import { LINK, PAYLOAD } from '../../src/experts/spawn.js';
import { bytesIn, copyRows, matrix } from '../../src/tensor.js';
import type { ProcessCall, ProcessCommand, ProcessProgram } from './bare-processes.js';

/* One of the bare processes: sleeps until it is told something, does it, and says that it has. */

const memory = new PayloadFile(PAYLOAD);
let experts: InlineBackend;
let program: ProcessProgram = { rows: 0, calls: [] };
let x = matrix(new Float32Array(0), 0, 0);
let room = new Float32Array(0);

for (const command of commands()) {
  if (command.op === 'open') await open(command.files, command);
  else if (command.op === 'load') load(command.program);
  else await run();
  writeSync(LINK, '\n');
}

function* commands(): Generator<ProcessCommand> {
  const chunk = Buffer.alloc(64 * 1024);
  let text = '';
  for (let count = 1; count > 0; ) {
    count = readSync(LINK, chunk);
    text += chunk.toString('latin1', 0, count);
    const lines = text.split('\n');
    text = lines.pop()!;
    for (const line of lines) yield JSON.parse(line);
  }
}

async function open(
  files: readonly string[],
  { residency }: Extract<ProcessCommand, { op: 'open' }>,
): Promise<void> {
  const named = files.map((path) => ({ path }));
  experts = await openInline(named, { residency, arena: false });
}

function load(next: ProcessProgram): void {
  program = next;
  const { hidden } = experts;
  x = matrix(new Float32Array(next.rows * hidden), next.rows, hidden);
  const most = next.calls.reduce((rows, call) => Math.max(rows, call.rows.length), 0);
  room = new Float32Array(most * hidden);
}

async function run(): Promise<void> {
  if (!memory.read(bytesIn(x.data))) throw new Error('x is not there');
  for (const call of program.calls) await make(call);
}

async function make({ expert, rows, first }: ProcessCall): Promise<void> {
  const input = room.subarray(0, rows.length * x.cols);
  copyRows({ x, rows: Int32Array.from(rows) }, input, 0);
  const y = await experts.compute(expert, input);
  const at = (x.rows + first) * x.cols * Float32Array.BYTES_PER_ELEMENT;
  if (!memory.write(bytesIn(y), at)) throw new Error('no room for y');
  discard(y);
}
