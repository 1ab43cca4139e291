import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { openInline } from '../../src/experts/inline.js';
import { type BareLaneData, type BareProgram, COMMAND, WORD } from './bare-experts.js';

/* One lane of the bare experts: waits for the signal, makes its calls, says that it has. */

const { files, residency, control, lane } = workerData as BareLaneData;
await using experts = await openInline(files, { residency });
let programs: readonly BareProgram[] = [];
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
    const { expert, x } = calls[next]!;
    await experts.compute(expert, x);
    Atomics.add(control, WORD.calls, 1);
  }
}
