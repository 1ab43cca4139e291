import { TurnoutError } from '../errors.js';
import { cpuNumbers } from './cpu-list.js';

/** Where an expert process computes. */
export interface Device {
  /** As it was written: `cpu`, `cpu:0-1`, `cuda:1`, `webgpu`. */
  readonly name: string;
  /** Execution provider of ONNX Runtime. */
  readonly provider: string;
  /** CPUs that the process is bound to, as `taskset` takes them; all where left out. */
  readonly cpus?: string;
  /** Number of the device among those of its provider. */
  readonly index?: number;
}

/** Variables of the process environment, such as `process.env`. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** Providers whose devices a process sees through a list in its environment: it is shown one, which is then number 0. */
const VISIBLE: Readonly<Record<string, string>> = {
  cuda: 'CUDA_VISIBLE_DEVICES',
  tensorrt: 'CUDA_VISIBLE_DEVICES',
  migraphx: 'HIP_VISIBLE_DEVICES',
};

/** Providers that onnxruntime-node hands a number. For the others it drops or refuses it, and ONNX Runtime chooses. */
const NUMBERED: ReadonlySet<string> = new Set(['dml', ...Object.keys(VISIBLE)]);

/** `cpu`, `cpu:LIST` (0, 0-1, 0,2), or `provider[:N]`. Throws TURNOUT_OPTIONS_INVALID. */
export function parseDevice(name: string): Device {
  const match = typeof name === 'string' && /^([a-z][a-z0-9]*)(?::([0-9][0-9,-]*))?$/.exec(name);
  const [, provider, place] = match || [];
  const isCpu = provider === 'cpu';
  const valid = place === undefined || (isCpu ? cpuNumbers(place) !== undefined : /^\d{1,4}$/.test(place));
  if (!provider || !valid) {
    const message = `device: expected cpu, cpu:LIST (such as cpu:0 or cpu:0-1), or provider[:N] (such as cuda:0), got ${JSON.stringify(name)}`;
    throw new TurnoutError('TURNOUT_OPTIONS_INVALID', message, { device: name });
  }
  if (place === undefined) return { name, provider };
  return isCpu ? { name, provider, cpus: place } : { name, provider, index: Number(place) };
}

/** A comma in a list of devices separates devices, except before a number: `cpu:0,2,webgpu` is two. Throws TURNOUT_OPTIONS_INVALID. */
export function parseDevices(list: string): Device[] {
  return list
    .trim()
    .replace(/\s*,\s*/g, ',')
    .split(/,(?!\d)/)
    .map(parseDevice);
}

/**
 * What to add to `env`, the environment of this process, for a process of the device. A number counts what `env`
 * shows: with CUDA_VISIBLE_DEVICES=2,3, `cuda:0` is 2. Throws TURNOUT_DEVICE_UNAVAILABLE.
 */
export function deviceEnvironment(device: Device, env: Environment): Record<string, string> {
  const { provider, index } = device;
  const variable = VISIBLE[provider];
  if (variable === undefined || index === undefined) return {};
  const visible = visibleDevices(env[variable]);
  if (visible === undefined) {
    // Without an order of its own CUDA puts the fastest first; nvidia-smi and this count along the bus.
    const order = variable.startsWith('CUDA') && env.CUDA_DEVICE_ORDER === undefined;
    return { [variable]: String(index), ...(order && { CUDA_DEVICE_ORDER: 'PCI_BUS_ID' }) };
  }
  const entry = visible[index];
  if (entry !== undefined) return { [variable]: entry };
  const last = visible.length - 1;
  const shown =
    last < 0 ? 'no device' : last === 0 ? `only ${provider}:0` : `${provider}:0 to ${provider}:${last}`;
  throw unavailable(device, `${variable}=${env[variable]} shows ${shown}`, { visible });
}

/**
 * The execution provider as onnxruntime-node takes it, in a process that was started with `deviceEnvironment`, whose
 * environment is `env`. Throws TURNOUT_DEVICE_UNAVAILABLE.
 */
export function providerOptions(device: Device, env: Environment): { name: string; deviceId?: number } {
  const { provider, index } = device;
  if (index === undefined) return { name: provider };
  if (!NUMBERED.has(provider)) {
    // The one that it prefers comes first in its own list.
    if (index === 0) return { name: provider };
    throw unavailable(device, `ONNX Runtime chooses the device of ${provider} itself; write ${provider}`);
  }
  const variable = VISIBLE[provider];
  if (variable === undefined) return { name: provider, deviceId: index };
  if (visibleDevices(env[variable])?.length === 1) return { name: provider, deviceId: 0 };
  throw unavailable(device, `expected a process that sees this device alone, by ${variable}`);
}

/** The entries of a *_VISIBLE_DEVICES list, numbers or UUIDs; undefined where it is not set. The first -1 or gap ends it. */
function visibleDevices(list: string | undefined): readonly string[] | undefined {
  if (list === undefined) return undefined;
  const entries = list.split(',').map((entry) => entry.trim());
  const end = entries.findIndex((entry) => entry === '' || entry.startsWith('-'));
  return end < 0 ? entries : entries.slice(0, end);
}

function unavailable({ name }: Device, reason: string, details: Record<string, unknown> = {}): TurnoutError {
  return new TurnoutError('TURNOUT_DEVICE_UNAVAILABLE', `${name}: ${reason}`, {
    device: name,
    reason,
    ...details,
  });
}
