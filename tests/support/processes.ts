import { readdirSync, readFileSync } from 'node:fs';
import { vi } from 'vitest';
import type { ExpertBackend } from '#turnout/experts/backend.js';

/** Process numbers of the lanes that have one. */
export function pidsOf(backend: ExpertBackend): number[] {
  return backend.lanes().flatMap(({ process }) => (process?.pid === undefined ? [] : [process.pid]));
}

/** Sends a signal to a process that may be gone already. */
export function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** Letter of the state of a process (R, S, T, Z, ...); undefined where there is none. Linux. */
export function stateOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return stat[stat.lastIndexOf(')') + 2];
  } catch {
    return undefined;
  }
}

/** Processes whose parent is `parent`, zombies too. Linux. */
export function childrenOf(parent: number): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
        return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]) === parent;
      } catch {
        return false;
      }
    });
}

/** Descriptors that this process has open. Linux. */
export function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length;
}

export async function allReady(backend: ExpertBackend, timeout = 5000): Promise<void> {
  await vi.waitFor(
    () => {
      for (const { lane, state, process } of backend.lanes()) {
        if (state !== 'ready') throw new Error(`lane ${lane} is ${state}: ${process?.lastDeath}`);
      }
    },
    { timeout, interval: 5 },
  );
}
