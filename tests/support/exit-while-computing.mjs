// Ends the process in the midst of a computation, at a moment that the arguments choose.
import { setTimeout as sleep } from 'node:timers/promises';
import { EngineThread } from '#turnout/model/engine-thread.js';

const [folder, backend, how, ms] = process.argv.slice(2);
const engine = await EngineThread.open(folder, { backend });
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
