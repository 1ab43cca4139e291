import { readdirSync, readFileSync } from 'node:fs';

/** Linux counts processor time in hundredths of a second. */
const MS_PER_TICK = 10;

/** Milliseconds of processor time that a process has had, or one of its threads; the main thread has the process's number. NaN where the system does not tell (it is not Linux). */
export function cpuMs(pid: number, thread?: number): number {
  if (process.platform !== 'linux') return Number.NaN;
  const path = thread === undefined ? `/proc/${pid}/stat` : `/proc/${pid}/task/${thread}/stat`;
  // The name in brackets may hold spaces.
  const fields = readFileSync(path, 'latin1').split(') ')[1]!.split(' ');
  return (Number(fields[11]) + Number(fields[12])) * MS_PER_TICK;
}

export interface ProcessState {
  readonly rssBytes: number;
  readonly threads: number;
  readonly descriptors: number;
}

/** What a process holds, as Linux counts it. */
export function processState(pid: number): ProcessState {
  const status = readFileSync(`/proc/${pid}/status`, 'latin1');
  const field = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)![1]);
  return {
    rssBytes: field('VmRSS') * 1024,
    threads: field('Threads'),
    descriptors: readdirSync(`/proc/${pid}/fd`).length,
  };
}
