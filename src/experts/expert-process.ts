import type { ChildProcess } from 'node:child_process';
import { closeSync, readFileSync } from 'node:fs';
import type { Duplex } from 'node:stream';
import { TurnoutError } from '../errors.js';
import { onStopped } from './limits.js';
import { openPayloadFile, PayloadFile } from './payload-file.js';
import { type Held, type LinkWork, ProcessLink, type Ran } from './process-link.js';
import type { HeldExpert } from './process-messages.js';
import { HOST_EXIT, LINK, type SpawnOptions, spawnHost } from './spawn.js';

/** Milliseconds that a process may take. */
export interface TimeLimits {
  /** To open the experts that it is told to hold. */
  readonly startMs: number;
  /** To compute its part of one call, those that wait before it not counted. */
  readonly answerMs: number;
}

/** Characters kept of what a process writes to its standard error, and lines of those that say why it died. */
const STDERR_TAIL = 8000;
const STDERR_LINES = 3;
/** A process that was told to end and did not within this time is killed. */
const CLOSE_MS = 5000;

/** One expert process, in the carrier thread that owns it: from its start to its end, which it never hides. */
export class ExpertProcess {
  /** Resolves with why, once the process is gone and the system has forgotten it. */
  readonly ended: Promise<string>;
  readonly #child: ChildProcess;
  readonly #link: ProcessLink;
  #stderr = '';
  /** Why this side ended it, where it did. */
  #reason: string | undefined;
  /** Times in a row that it was seen stopped. */
  #stopped = 0;

  constructor(options: SpawnOptions) {
    const shared = openPayloadFile();
    try {
      this.#child = spawnHost(options, shared);
    } catch (error) {
      if (shared !== undefined) closeSync(shared);
      throw error;
    }
    const file = shared === undefined ? undefined : new PayloadFile(shared);
    const link = this.#child.stdio[LINK] as Duplex;
    this.#link = new ProcessLink(link, (error) => this.kill(error?.message), file);
    this.#child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-STDERR_TAIL);
    });
    this.ended = new Promise<string>((resolve) => {
      this.#child.once('error', (error) => resolve(`could not be started: ${error.message}`));
      this.#child.once('close', (code, signal) => resolve(this.#reasonOf(code, signal)));
    }).then((reason) => {
      this.#link.end(new TurnoutError('TURNOUT_LANE_DIED', reason));
      file?.close();
      return reason;
    });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** Whether it owes an answer. */
  get busy(): boolean {
    return this.#link.due !== undefined;
  }

  hold(files: readonly HeldExpert[]): Promise<Held> {
    return this.#link.hold(files);
  }

  /** Throws TURNOUT_LANE_DIED where the process ends first; x is untouched then. */
  async run(work: LinkWork, hidden: number): Promise<Ran> {
    const { result, cancel } = this.#link.run(work, hidden);
    if (!work.stop) return result;
    const unwatch = onStopped(work.stop, cancel);
    return result.finally(unwatch);
  }

  /** Lets it end by itself after the work that it has; resolves when it is gone. */
  async close(): Promise<void> {
    this.#reason ??= 'was closed';
    const timer = setTimeout(() => this.kill(), CLOSE_MS);
    // A link that is broken already ends it as well.
    await this.#link.close().catch(() => this.kill());
    await this.ended;
    clearTimeout(timer);
  }

  /** Ends it now. */
  kill(reason?: string): void {
    this.#reason ??= reason;
    this.#child.kill('SIGKILL');
  }

  /** To be called every now and then: ends it where it was stopped, or has not answered for too long. */
  watch({ startMs, answerMs }: TimeLimits): void {
    this.#stopped = isStopped(this.pid) ? this.#stopped + 1 : 0;
    const { due } = this.#link;
    const limit = due?.op === 'held' ? startMs : answerMs;
    if (this.#stopped > 1) this.kill('was stopped');
    else if (due && due.ms > limit) this.kill(`gave no answer in ${limit} ms`);
  }

  #reasonOf(code: number | null, signal: NodeJS.Signals | null): string {
    const exits: Record<number, string> = {
      [HOST_EXIT.badLink]: 'was sent what is no request',
      [HOST_EXIT.outOfMemory]: 'had no memory left',
    };
    const how = code === null ? `was ended by ${signal}` : (exits[code] ?? `exited with code ${code}`);
    const said = lastLines(this.#stderr);
    return (this.#reason ?? how) + (said === '' ? '' : ` (${said})`);
  }
}

/** The last lines of a text that say something: the frames of a stack do not, to those who read of a death. */
function lastLines(text: string): string {
  const lines = text.split('\n').map((line) => line.trim());
  return lines
    .filter((line) => /\w/.test(line) && !/^(\d+: 0x|at |-+ .*stack)/i.test(line))
    .slice(-STDERR_LINES)
    .join('; ');
}

/** Whether a signal has stopped the process; Linux alone tells. Stops of a debugger have another letter. */
function isStopped(pid: number | undefined): boolean {
  if (process.platform !== 'linux' || pid === undefined) return false;
  try {
    // pid (name) state ...; the name may hold anything.
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return stat[stat.lastIndexOf(')') + 2] === 'T';
  } catch {
    return false;
  }
}
