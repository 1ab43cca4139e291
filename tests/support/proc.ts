import { readdirSync, readFileSync } from 'node:fs';
import { cpuNumbers } from '#turnout/experts/cpu-list.js';

/** The processes whose environment holds `NAME=value`, as it was when they began. Linux only. */
export function processesWith(entry: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => environmentOf(pid).includes(entry))
    .map(Number);
}

/** Of one that has ended meanwhile, or that the system has yet to forget: none. */
function environmentOf(pid: string): string[] {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
  } catch {
    return [];
  }
}

/** The CPUs that this process may run on: containers may keep any of them from it. Linux only. */
export function allowedCpus(): readonly number[] {
  return cpuNumbers(/^Cpus_allowed_list:\s*(\S+)/m.exec(readFileSync('/proc/self/status', 'utf8'))![1]!)!;
}
