import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { TurnoutError } from '../errors.js';
import { deviceEnvironment } from './device.js';
import type { HostOptions } from './host.js';
import { pagesFor } from './huge-pages.js';

/** The descriptor of the link in an expert process; 0 to 2 are the standard streams. */
export const LINK = 3;
/** The descriptor of the memory that it shares with its carrier, where there is one. */
export const PAYLOAD = 4;

/** What an expert process ends with when it cannot go on; 0 where its carrier is gone. */
export const HOST_EXIT = { badLink: 70, outOfMemory: 71 } as const;

export interface SpawnOptions extends Omit<HostOptions, 'payloadFile'> {
  /** Bytes of data that the process may have (RLIMIT_DATA). Linux only. */
  readonly memoryBytes?: number;
  /** The program; for tests, which let it break the rules of the link. */
  readonly program?: string;
}

const PROGRAM = fileURLToPath(new URL('./process-host.js', import.meta.url));

/**
 * Starts an expert process, pinned to its device from the first instruction on. The link is one end of a socket pair
 * that the process inherits: it has no name, so there is nothing to clean up and nobody else can connect.
 * Throws TURNOUT_DEVICE_UNAVAILABLE or TURNOUT_OPTIONS_INVALID where this system cannot pin it.
 */
export function spawnHost(
  { memoryBytes, program = PROGRAM, ...options }: SpawnOptions,
  payloadFile?: number,
): ChildProcess {
  const host: HostOptions = { ...options, ...(payloadFile !== undefined && { payloadFile: PAYLOAD }) };
  const node = [process.execPath, program, JSON.stringify(host)];
  const [command, ...args] = [...pinning({ ...options, ...(memoryBytes && { memoryBytes }) }), ...node];
  // NODE_OPTIONS are those of the host application: a debugger's port, a loader.
  const { NODE_OPTIONS: _, ...inherited } = process.env;
  const child = spawn(command!, args, {
    stdio: ['ignore', 'ignore', 'pipe', 'pipe', ...(payloadFile === undefined ? [] : [payloadFile])],
    env: {
      ...inherited,
      ...pagesFor(options.residency, 'main'),
      ...deviceEnvironment(options.device, process.env),
    },
  });
  if (child.stdio !== undefined) return child;
  // Without descriptors there are no streams; the error itself comes later, and would end the thread unheard.
  child.once('error', () => {});
  throw new TurnoutError('TURNOUT_LANE_DIED', 'could not be started: this process has too many open files');
}

/**
 * The commands in front of node, each of which becomes the next: the kernel kills the process when the thread that
 * started it ends, even where it is stopped; its CPUs; the limit on its memory.
 */
function pinning({ device, memoryBytes }: Pick<SpawnOptions, 'device' | 'memoryBytes'>): string[] {
  const { cpus } = device;
  if (process.platform !== 'linux') {
    if (cpus !== undefined) throw unavailable(device.name, 'binding a process to CPUs needs Linux');
    if (memoryBytes !== undefined) throw noLimit('a limit on the memory of a process needs Linux');
    return [];
  }
  const tools: string[] = [];
  if (endsWithOwner()) tools.push(...DEATH_SIGNAL);
  if (cpus !== undefined) {
    if (!hasTool('taskset'))
      throw unavailable(device.name, 'binding a process to CPUs needs taskset (util-linux)');
    tools.push('taskset', '-c', cpus);
  }
  if (memoryBytes !== undefined) {
    if (!hasTool('prlimit')) throw noLimit('a limit on the memory of a process needs prlimit (util-linux)');
    tools.push('prlimit', `--data=${memoryBytes}`, '--');
  }
  return tools;
}

const DEATH_SIGNAL = ['setpriv', '--pdeathsig', 'KILL', '--'] as const;
let deathSignal: boolean | undefined;

/** Whether the kernel can be told to end expert processes with their owner, stopped ones too: BusyBox's setpriv cannot. */
export function endsWithOwner(): boolean {
  if (process.platform !== 'linux') return false;
  deathSignal ??= succeeds([...DEATH_SIGNAL, 'true']);
  return deathSignal;
}

/** Whether a short command ends well. One that is itself ended by a signal, such as a Ctrl-C for all, says nothing: it is run again. */
function succeeds([command, ...args]: readonly string[]): boolean {
  for (let tries = 0; tries < 3; tries++) {
    const { status, signal } = spawnSync(command!, args);
    if (signal === null) return status === 0;
  }
  return false;
}

const tools = new Map<string, boolean>();

function hasTool(name: string): boolean {
  const known = tools.get(name);
  if (known !== undefined) return known;
  const found = (process.env.PATH ?? '').split(delimiter).some((folder) => isExecutable(join(folder, name)));
  tools.set(name, found);
  return found;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function unavailable(device: string, why: string): TurnoutError {
  return new TurnoutError('TURNOUT_DEVICE_UNAVAILABLE', `${device}: ${why}`, { device });
}

function noLimit(why: string): TurnoutError {
  return new TurnoutError('TURNOUT_OPTIONS_INVALID', `memoryBytes: ${why}`);
}
