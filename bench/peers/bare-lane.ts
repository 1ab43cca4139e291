import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { discard } from '../../src/experts/discard.js';
import { openInline } from '../../src/experts/inline.js';
import { copyValues } from '../../src/experts/shared-call.js';
import { copyRows } from '../../src/tensor.js';
import { type BareCall, type BareLaneData, type BareProgram, COMMAND, WORD } from './bare-experts.js';

/* One lane of the bare experts: waits for the signal, makes its calls, says that it has. */

const { files, residency, control, lane } = workerData as BareLaneData;
await using experts = await openInline(files, { residency });
let programs: readonly BareProgram[] = [];
/** For x of one call, as lanes of a backend have it. */
let room = new Float32Array(0);
parentPort!.postMessage('ready');

for (let signal = 0, command = 0; command !== COMMAND.end; ) {
  Atomics.wait(control, WORD.signal, signal);
  signal = Atomics.load(control, WORD.signal);
  command = Atomics.load(control, WORD.command);
  if (command === COMMAND.load) programs = receiveMessageOnPort(parentPort!)!.message;
  else if (command !== COMMAND.end) await run(programs[command]!);
  Atomics.add(control, WORD.done, 1);
  Atomics.notify(control, WORD.done);
}

async function run({ calls, queues }: BareProgram): Promise<void> {
  const queue = lane % queues.length;
  const order = queues[queue]!;
  for (;;) {
    const next = order[Atomics.add(control, WORD.queues + queue, 1)];
    if (next === undefined) return;
    await make(calls[next]!);
    Atomics.add(control, WORD.calls, 1);
  }
}

async function make(call: BareCall): Promise<void> {
  if ('x' in call) {
    discard(await experts.compute(call.expert, call.x));
    return;
  }
  const values = call.rows.length * experts.hidden;
  if (room.length < values) room = new Float32Array(values);
  const x = room.subarray(0, values);
  copyRows({ x: call.from, rows: call.rows }, x, 0);
  const y = await experts.compute(call.expert, x);
  copyValues(y, call.y);
  discard(y);
}
