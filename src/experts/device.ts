import { TurnoutError } from '../errors.js';

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

/** Providers whose devices are told apart by what the process can see: it sees one, which is then number 0. */
const VISIBLE: Readonly<Record<string, string>> = {
  cuda: 'CUDA_VISIBLE_DEVICES',
  tensorrt: 'CUDA_VISIBLE_DEVICES',
  rocm: 'HIP_VISIBLE_DEVICES',
  migraphx: 'HIP_VISIBLE_DEVICES',
};

/** `cpu`, `cpu:LIST` (0, 0-1, 0,2), or `provider[:N]`. Throws TURNOUT_OPTIONS_INVALID. */
export function parseDevice(name: string): Device {
  const match = /^([a-z][a-z0-9]*)(?::([0-9][0-9,-]*))?$/.exec(name);
  const [, provider, place] = match ?? [];
  const valid = provider === 'cpu' ? isCpuList(place) : place === undefined || /^\d+$/.test(place);
  if (!provider || !valid) {
    const message = `device: expected cpu, cpu:LIST (such as cpu:0 or cpu:0-1), or provider[:N] (such as cuda:0), got ${JSON.stringify(name)}`;
    throw new TurnoutError('TURNOUT_OPTIONS_INVALID', message, { device: name });
  }
  if (place === undefined) return { name, provider };
  return provider === 'cpu' ? { name, provider, cpus: place } : { name, provider, index: Number(place) };
}

function isCpuList(list: string | undefined): boolean {
  if (list === undefined) return true;
  return list.split(',').every((part) => {
    const [first, last, ...more] = part.split('-').map((text) => (text === '' ? Number.NaN : Number(text)));
    return more.length === 0 && Number.isInteger(first) && (last === undefined || last >= first!);
  });
}

/** A comma in a list of devices separates devices, except before a number: cpu:0,2 is one device. */
export function parseDevices(list: string): Device[] {
  return list.split(/,(?!\s*\d)/).map((name) => parseDevice(name.trim()));
}

/** What a process of the device sees of the machine, beside the environment of this one. */
export function deviceEnvironment({ provider, index }: Device): Record<string, string> {
  const variable = VISIBLE[provider];
  return variable !== undefined && index !== undefined
    ? { [variable]: String(index), CUDA_DEVICE_ORDER: 'PCI_BUS_ID' }
    : {};
}

/** The execution provider as a session takes it, in a process that was started for the device. */
export function providerOptions({ provider, index }: Device): { name: string; deviceId?: number } {
  if (index === undefined) return { name: provider };
  return { name: provider, deviceId: provider in VISIBLE ? 0 : index };
}
