import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

/** A program of util-linux that stands in front of expert processes, and whether it does its part here. */
export interface ToolTrial {
  readonly name: string;
  readonly ok: boolean;
  /** What cannot be had without it. */
  readonly without: string;
  readonly error?: string;
}

/** Each is tried, not looked for: those of BusyBox have the names but not all of the options. */
const TOOLS = [
  {
    name: 'setpriv',
    args: ['--pdeathsig', 'KILL', '--'],
    without: 'an expert process that is stopped outlives its owner',
  },
  { name: 'taskset', args: ['-c', '0-1023'], without: 'no devices such as cpu:0-1' },
  { name: 'prlimit', args: [`--data=${2 ** 30}`, '--'], without: 'no limits.memoryBytes' },
] as const;

const TRIAL_MS = 10_000;

/** What pinning and the death signal of expert processes need on Linux; elsewhere there is neither. */
export async function tryTools(): Promise<ToolTrial[]> {
  if (process.platform !== 'linux') return [];
  return Promise.all(
    TOOLS.map(async ({ name, args, without }) => {
      const command = [...args, process.execPath, '--version'];
      try {
        await promisify(execFile)(name, command, { timeout: TRIAL_MS });
        return { name, ok: true, without };
      } catch (cause) {
        return { name, ok: false, without, error: reasonOf(cause as Failure) };
      }
    }),
  );
}

/** What execFile throws. */
interface Failure {
  readonly code?: unknown;
  readonly signal?: string;
  readonly stderr?: string;
}

function reasonOf({ code, signal, stderr }: Failure): string {
  if (code === 'ENOENT') return 'is not on the PATH';
  const said = stderr?.trim().split('\n')[0];
  return said || `ended with ${signal ?? code}`;
}
