import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { wholeBatch } from '../experts/batches.js';
import type { Device } from '../experts/device.js';
import { openProcesses } from '../experts/processes.js';
import { type OnnxGraph, writeOnnxFile } from '../model/onnx-write.js';

type DeviceTrial =
  | { readonly ok: true; readonly milliseconds: number }
  | { readonly ok: false; readonly error: string };

/** Drivers may hang as well as crash. */
const TRIAL_MS = 30_000;

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

/** In an expert process like any other, so that a driver that crashes takes only that one with it. Never throws. */
async function tryDevice({ name }: Device, path: string): Promise<DeviceTrial> {
  const started = performance.now();
  try {
    const limits = { startMs: TRIAL_MS, answerMs: TRIAL_MS };
    await using backend = await openProcesses([{ path }], { devices: [name], limits });
    const batch = wholeBatch(0, new Float32Array(HIDDEN).fill(0.5), HIDDEN);
    const { outputs } = await backend.run([batch], { timeoutMs: TRIAL_MS });
    const milliseconds = performance.now() - started;
    if (!outputs[0]!.every(Number.isFinite)) throw new Error('gave values that are not finite');
    return { ok: true, milliseconds };
  } catch (error) {
    return { ok: false, error: `${name}: ${reasonOf(error as Error, name)}` };
  }
}

function reasonOf({ message }: Error, name: string): string {
  const died = `lane 0 (process on ${name}) `;
  if (message.startsWith(died)) return `its process ${message.slice(died.length)}`;
  return message.startsWith(`${name}: `) ? message.slice(name.length + 2) : message;
}

const HIDDEN = 4;
const INNER = 8;

/** relu(x W1) W2 */
function smallExpert(): OnnxGraph {
  const weights = (rows: number, cols: number) =>
    Float32Array.from({ length: rows * cols }, (_, i) => (i % 7) / 10 - 0.2);
  return {
    inputs: [{ name: 'x', elemType: 'float32', dims: ['n', HIDDEN] }],
    outputs: [{ name: 'y', elemType: 'float32', dims: ['n', HIDDEN] }],
    nodes: [
      { op: 'MatMul', inputs: ['x', 'w1'], outputs: ['up'] },
      { op: 'Relu', inputs: ['up'], outputs: ['active'] },
      { op: 'MatMul', inputs: ['active', 'w2'], outputs: ['y'] },
    ],
    initializers: [
      { name: 'w1', dims: [HIDDEN, INNER], data: weights(HIDDEN, INNER) },
      { name: 'w2', dims: [INNER, HIDDEN], data: weights(INNER, HIDDEN) },
    ],
  };
}
