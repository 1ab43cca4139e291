import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { TurnoutError } from '../errors.js';
import { type Device, deviceEnvironment } from '../experts/device.js';
import type { DeviceTrial } from '../experts/device-trial.js';
import { type OnnxGraph, writeOnnxFile } from '../model/onnx-write.js';

/** Drivers may hang as well as crash. */
const TRIAL_MS = 30_000;
const TRIAL = fileURLToPath(new URL('./device-trial.js', import.meta.url));

/** Each device tried for real on a one-row expert, one after the other so that none slows another. */
export async function tryDevices(devices: readonly Device[]): Promise<DeviceTrial[]> {
  const folder = await mkdtemp(join(tmpdir(), 'turnout-doctor-'));
  try {
    const model = join(folder, 'expert.onnx');
    await writeOnnxFile(model, smallExpert());
    const trials: DeviceTrial[] = [];
    for (const device of devices) trials.push(await tryDevice(device, model));
    return trials;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** In a process of its own, pinned as an expert process is. Never throws for what the device says. */
async function tryDevice(device: Device, model: string): Promise<DeviceTrial> {
  try {
    const [command, ...args] = [...pinning(device), process.execPath, TRIAL, device.name, model];
    const env = { ...process.env, ...deviceEnvironment(device, process.env) };
    const { stdout } = await promisify(execFile)(command!, args, { timeout: TRIAL_MS, env });
    return JSON.parse(stdout) as DeviceTrial;
  } catch (cause) {
    if (cause instanceof TurnoutError) return { ok: false, error: cause.message };
    return { ok: false, error: `${device.name}: ${howItEnded(cause as Ended)}` };
  }
}

function pinning({ name, cpus }: Device): string[] {
  if (cpus === undefined) return [];
  if (process.platform === 'linux') return ['taskset', '-c', cpus];
  const message = `${name}: a process can be bound to CPUs on Linux only`;
  throw new TurnoutError('TURNOUT_DEVICE_UNAVAILABLE', message, { device: name });
}

/** What execFile throws. */
interface Ended {
  readonly killed?: boolean;
  readonly signal?: string;
  readonly code?: unknown;
  readonly path?: string;
  readonly stderr?: string;
}

function howItEnded({ killed, signal, code, path, stderr }: Ended): string {
  if (killed) return `gave no answer in ${TRIAL_MS / 1000} s`;
  if (code === 'ENOENT') return `needs the program ${path}`;
  const said = stderr?.trim().split('\n').at(-1);
  return `ended its process (${signal ?? code})${said ? `: ${said}` : ''}`;
}

/** relu(x W1) W2 with H = 4, F = 8. */
function smallExpert(): OnnxGraph {
  const weights = (rows: number, cols: number) =>
    Float32Array.from({ length: rows * cols }, (_, i) => (i % 7) / 10 - 0.2);
  return {
    inputs: [{ name: 'x', elemType: 'float32', dims: ['n', 4] }],
    outputs: [{ name: 'y', elemType: 'float32', dims: ['n', 4] }],
    nodes: [
      { op: 'MatMul', inputs: ['x', 'w1'], outputs: ['up'] },
      { op: 'Relu', inputs: ['up'], outputs: ['active'] },
      { op: 'MatMul', inputs: ['active', 'w2'], outputs: ['y'] },
    ],
    initializers: [
      { name: 'w1', dims: [4, 8], data: weights(4, 8) },
      { name: 'w2', dims: [8, 4], data: weights(8, 4) },
    ],
  };
}
