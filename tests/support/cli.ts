import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';

const ROOT = join(import.meta.dirname, '..', '..');
export const MAIN = join(ROOT, 'dist', 'src', 'cli', 'main.js');

export interface Outcome {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** Runs the real command with arguments, standard input, and variables on top of this process's environment. */
export function turnout(
  args: readonly string[],
  input = '',
  env: Readonly<Record<string, string>> = {},
): Promise<Outcome> {
  return run(process.execPath, [MAIN, ...args], input, env);
}

/** Runs a line of shell in which `$TURNOUT` is the real command. */
export function shell(line: string, input = ''): Promise<Outcome> {
  return run('sh', ['-c', line.replaceAll('$TURNOUT', `'${process.execPath}' '${MAIN}'`)], input);
}

async function run(command: string, args: readonly string[], input: string, env = {}): Promise<Outcome> {
  const child = spawn(command, args, { cwd: ROOT, env: { ...process.env, ...env } });
  // A command that refuses its arguments ends before it reads.
  child.stdin.on('error', () => {});
  child.stdin.end(input);
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
  const [code, out, err] = await Promise.all([ended, text(child.stdout), text(child.stderr)]);
  return { code, out, err };
}
