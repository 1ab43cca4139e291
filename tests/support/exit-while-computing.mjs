// Ends the process in the midst of a computation or of opening an engine, at a moment that the arguments choose.
import { setTimeout as sleep } from 'node:timers/promises';
import { EngineThread } from '#turnout/model/engine-thread.js';

const [folder, backend, how, ms] = process.argv.slice(2);
const opening = EngineThread.open(folder, { backend });
if (how === 'open') {
  opening.catch(() => {});
  await sleep(Number(ms));
  process.exit(7);
}
const engine = await opening;
const stop = new AbortController();
const running = [1, 2, 3].map((n) =>
  engine.generate('x'.repeat(300 * n), { maxTokens: 400, ignoreEnd: true, signal: stop.signal }),
);
for (const generation of running) generation.catch(() => {});
await sleep(Number(ms));
if (how === 'abort') {
  stop.abort();
  await Promise.allSettled(running);
}
process.exit(7);
