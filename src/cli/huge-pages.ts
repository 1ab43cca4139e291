import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:os';
import type { Residency } from '../experts/backend.js';
import { pagesFor } from '../experts/huge-pages.js';

/** Since Node 22.15: this program in the place of the one that runs. */
type Execve = (file: string, args: readonly string[], env: NodeJS.ProcessEnv) => never;
const { execve } = process as typeof process & { readonly execve?: Execve };

const FORWARDED = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * Starts this very command anew, in huge pages, where it was not, there are some, and experts of this residency are faster
 * there; returns where it goes on as it is.
 * An older Node cannot give its place up: then it goes on, or with `child` the command runs in a process below this one.
 */
export async function inHugePages(residency: Residency, { child = false } = {}): Promise<void> {
  if (process.env.GLIBC_TUNABLES !== undefined) return;
  const tunables = pagesFor(residency, 'threads');
  if (tunables.GLIBC_TUNABLES === undefined) return;
  const env = { ...process.env, ...tunables };
  const args = [...process.execArgv, ...process.argv.slice(1)];
  if (execve) execve(process.execPath, [process.execPath, ...args], env);
  if (child) process.exit(await runBelow(args, env));
}

/** In a group of its own: what a terminal sends reaches it once, through here. Resolves with its exit code. */
async function runBelow(args: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const child = spawn(process.execPath, args, { stdio: 'inherit', env, detached: true });
  for (const signal of FORWARDED) process.on(signal, () => child.kill(signal));
  const [code, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null];
  return code ?? 128 + constants.signals[signal!];
}
