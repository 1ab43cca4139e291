import { readFileSync } from 'node:fs';
import type { ProcessMemory } from './process-messages.js';

/** Reading it takes some 50 us, a small call not much more. */
const FRESH_MS = 1000;

/** Memory of this process, read anew at most once a second unless `now` is asked for. */
export function memoryReader(): (now?: boolean) => ProcessMemory {
  let read = Number.NEGATIVE_INFINITY;
  let memory: ProcessMemory = { rss: 0, private: null };
  return (now = false) => {
    if (now || performance.now() - read > FRESH_MS) {
      read = performance.now();
      memory = { rss: process.memoryUsage.rss(), private: privateBytes() };
    }
    return memory;
  };
}

/** Resident memory that is of no file and not shared; only Linux tells. */
function privateBytes(): number | null {
  if (process.platform !== 'linux') return null;
  const found = /^RssAnon:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'latin1'));
  return found ? Number(found[1]) * 1024 : null;
}
