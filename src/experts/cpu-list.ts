import { readFile } from 'node:fs/promises';
import { TurnoutError } from '../errors.js';

/** The most CPUs that Linux can be built for is 8192; it also bounds what a range unfolds to. */
const MAX_CPU = 8191;

/** CPUs as `taskset` and the kernel write them, `0-2,4` -> [0, 1, 2, 4], each once; undefined where it is no such list. */
export function cpuNumbers(list: string): readonly number[] | undefined {
  const numbers = new Set<number>();
  for (const part of list.split(',')) {
    const match = /^(\d+)(?:-(\d+))?$/.exec(part);
    const first = Number(match?.[1]);
    const last = Number(match?.[2] ?? first);
    if (!match || last < first || last > MAX_CPU) return undefined;
    for (let cpu = first; cpu <= last; cpu++) numbers.add(cpu);
  }
  return [...numbers].sort((a, b) => a - b);
}

/**
 * Throws TURNOUT_DEVICE_UNAVAILABLE unless this process may run on exactly the CPUs of its device. `taskset` succeeds
 * where it gets some of the CPUs that it was asked for, so what it did is looked up. Linux only.
 */
export async function checkCpus(
  { name, cpus }: { readonly name: string; readonly cpus?: string },
  statusFile = '/proc/self/status',
): Promise<void> {
  if (cpus === undefined) return;
  const status = await readFile(statusFile, 'utf8').catch(() => '');
  const allowed = /^Cpus_allowed_list:\s*(\S+)$/m.exec(status)?.[1] ?? 'unknown CPUs';
  if (cpuNumbers(allowed)?.join() === cpuNumbers(cpus)?.join()) return;
  const message = `${name}: expected a process on the CPUs ${cpus}, got one on ${allowed}`;
  throw new TurnoutError('TURNOUT_DEVICE_UNAVAILABLE', message, { device: name, cpus, allowed });
}
