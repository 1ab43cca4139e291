import { readFileSync } from 'node:fs';

/** Bytes that a process has for itself. */
export interface PrivateMemory {
  /** In no other process: of no file, and pages of files that no other process maps. */
  readonly privateBytes: number;
  /** Of no file. */
  readonly anonymousBytes: number;
}

/** The sum over some processes; undefined where the system does not tell (it is not Linux). */
export function privateMemory(pids: readonly number[]): PrivateMemory | undefined {
  if (process.platform !== 'linux') return undefined;
  const all = pids.map((pid) => readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1'));
  const sum = (name: string) => all.reduce((bytes, text) => bytes + bytesOf(text, name), 0);
  return { privateBytes: sum('Private_Clean') + sum('Private_Dirty'), anonymousBytes: sum('Anonymous') };
}

function bytesOf(text: string, name: string): number {
  return Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text)![1]) * 1024;
}
