import { readFileSync } from 'node:fs';
import { freemem } from 'node:os';

/** Bytes; page cache that can be dropped counts, where the system tells. */
export function availableMemory(): number {
  try {
    const kib = /^MemAvailable:\s+(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1];
    return kib === undefined ? freemem() : 1024 * Number(kib);
  } catch {
    return freemem();
  }
}
