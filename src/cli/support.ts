import { readFile } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import { type Command, CommanderError, InvalidArgumentError } from 'commander';
import { ERROR_CODES, TurnoutError } from '../errors.js';

/** What a command ends with: 0 for success; a signal ends it with 128 + its number. */
export const EXIT = {
  /** Input, data or a package cannot be used. */
  failed: 1,
  /** The command line itself is wrong. */
  usage: 2,
  interrupted: 130,
  terminated: 143,
} as const;

/**
 * Runs a program to its end and sets the exit code. Errors go to stderr as `TURNOUT_CODE: message`, with a line on
 * what to do; a command with `--json` on its command line gets them as one JSON object there.
 */
export async function runProgram(program: Command, argv: readonly string[] = process.argv): Promise<void> {
  endOnBrokenPipe();
  for (const command of withSubcommands(program)) command.exitOverride();
  try {
    await program.parseAsync([...argv]);
  } catch (error) {
    if (error instanceof CommanderError) {
      process.exitCode = error.exitCode === 0 ? 0 : EXIT.usage;
      return;
    }
    process.stderr.write(describeError(error, argv.includes('--json')));
    process.exitCode = EXIT.failed;
  }
}

/** A command and all below it: those added to it do not inherit how it ends. */
function withSubcommands(command: Command): Command[] {
  return [command, ...command.commands.flatMap(withSubcommands)];
}

/** `turnout run | head` closes our output early: that is no error of ours. */
function endOnBrokenPipe(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EPIPE') process.exit(0);
      throw error;
    });
  }
}

/** An error as lines for a person, or as JSON {code, message, help, details}; one without a code keeps its stack. */
export function describeError(error: unknown, json = false): string {
  if (!(error instanceof TurnoutError)) {
    return `${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`;
  }
  const { code, message, details } = error;
  const help = ERROR_CODES[code];
  if (json) return `${JSON.stringify({ code, message, help, details })}\n`;
  return `${code}: ${message}\n  ${help}\n`;
}

const ENDS = { SIGINT: ['Ctrl-C', EXIT.interrupted], SIGTERM: ['SIGTERM', EXIT.terminated] } as const;

/**
 * A signal that the first Ctrl-C or SIGTERM aborts, or the first of `by`, so that a command can end cleanly; the second
 * ends the process. Its reason is who ended the command, in words.
 */
export function interruptSignal(by: readonly (keyof typeof ENDS)[] = ['SIGINT', 'SIGTERM']): AbortSignal {
  const controller = new AbortController();
  for (const name of by) {
    const [who, code] = ENDS[name];
    process.on(name, () => {
      if (controller.signal.aborted) process.exit(code);
      process.exitCode = code;
      controller.abort(who);
    });
  }
  return controller.signal;
}

/** The text of a file, or of standard input for '-'. Throws TURNOUT_FILE_MISSING. */
export async function readSource(path: string): Promise<string> {
  if (path === '-') return text(process.stdin);
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    throw new TurnoutError(
      'TURNOUT_FILE_MISSING',
      `cannot read ${path}: ${(cause as Error).message}`,
      { path },
      { cause },
    );
  }
}

/** For commander: the value of an option as a number; anything else is an error of usage. */
export function numberArgument(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || Number.isNaN(value)) throw new InvalidArgumentError('expected a number.');
  return value;
}

/** The value of --capacity-factor: a number, or `none`. */
export function factorArgument(text: string): number | 'none' {
  return text === 'none' ? text : numberArgument(text);
}

/** Writes to standard output and waits until it is taken, so that a long result is never cut at the exit. */
export function write(text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    process.stdout.write(text, (error) => (error ? reject(error) : resolve()));
  });
}

export function print(line: string): Promise<void> {
  return write(`${line}\n`);
}

/** The value of --options, JSON itself or the name of a file, as a record. Throws TURNOUT_INPUT_INVALID or TURNOUT_OPTIONS_INVALID. */
export async function readOverrides(source: string): Promise<Record<string, unknown>> {
  const inline = source.trimStart().startsWith('{');
  const value = parseJson(inline ? source : await readSource(source), '--options');
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>;
  throw new TurnoutError(
    'TURNOUT_OPTIONS_INVALID',
    `--options: expected an object, got ${JSON.stringify(value)}`,
  );
}

/**
 * JSON text -> its value. Bare NaN, Infinity and -Infinity, which Python's json module writes, become the strings
 * "NaN", "Infinity" and "-Infinity". Throws TURNOUT_INPUT_INVALID.
 */
export function parseJson(source: string, what: string): unknown {
  const quoted = source.replace(/"(?:[^"\\]|\\.)*"|-?\b(?:NaN|Infinity)\b/g, (token) =>
    token.startsWith('"') ? token : `"${token}"`,
  );
  try {
    return JSON.parse(quoted);
  } catch (cause) {
    throw new TurnoutError(
      'TURNOUT_INPUT_INVALID',
      `${what}: expected JSON, got ${(cause as Error).message}`,
      {},
      { cause },
    );
  }
}
