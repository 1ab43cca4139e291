import { evaluate } from './evaluate.js';
import { experts } from './experts.bench.js';
import { router } from './router.bench.js';
import { server } from './server.bench.js';
import { soak } from './soak.bench.js';

/** `npm run bench -- NAME [options]`: each takes its own options. */
const BENCHES: Readonly<Record<string, { about: string; run: (args: readonly string[]) => Promise<void> }>> =
  {
    router: { about: 'score and top-k, plan, gather and combine alone, beside rivals', run: router },
    experts: { about: 'threads and processes: round trips, memory, start, recovery', run: experts },
    server: { about: 'the HTTP server beside the engine called directly; overload', run: server },
    soak: { about: 'the HTTP server under mixed load for a while: memory, descriptors, threads', run: soak },
    evaluate: { about: 'bits per byte of the held-out texts of a package', run: evaluate },
  };

const [name = '', ...args] = process.argv.slice(2);
const bench = Object.hasOwn(BENCHES, name) ? BENCHES[name] : undefined;
if (bench) {
  await bench.run(args);
} else {
  const list = Object.entries(BENCHES).map(([key, { about }]) => `  ${key.padEnd(12)} ${about}`);
  console.error(['usage: npm run bench -- NAME [options]', ...list].join('\n'));
  process.exitCode = 2;
}
