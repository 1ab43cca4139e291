import { TurnoutError } from '../errors.js';
import { checkCpus } from './cpu-list.js';
import type { Device } from './device.js';
import { openSession, type PlainTensor, type TensorSpec } from './session.js';

export type DeviceTrial =
  | { readonly ok: true; readonly milliseconds: number }
  | { readonly ok: false; readonly error: string };

/**
 * Opens a float32 graph on a device and runs it once: every unknown dimension is 1, every value 0.5. Never throws for
 * what the device or its provider says; a driver that crashes takes the process with it, so try unknown ones in a
 * process of their own.
 */
export async function runTrial(device: Device, file: string): Promise<DeviceTrial> {
  const started = performance.now();
  try {
    await checkCpus(device);
    await using session = await openSession(file, { device });
    const outputs = await session.run(Object.fromEntries(session.inputMetadata.map(sampleFeed)));
    const bad = Object.entries(outputs).find(
      ([, { data }]) => !(data as Float32Array).every(Number.isFinite),
    );
    if (bad) return { ok: false, error: `output ${bad[0]} holds values that are not finite` };
  } catch (error) {
    if (!(error instanceof TurnoutError)) throw error;
    return { ok: false, error: error.message };
  }
  return { ok: true, milliseconds: performance.now() - started };
}

function sampleFeed({ name, shape }: TensorSpec): [string, PlainTensor] {
  const dims = shape.map((dim) => (typeof dim === 'number' ? dim : 1));
  const data = new Float32Array(dims.reduce((product, dim) => product * dim, 1)).fill(0.5);
  return [name, { type: 'float32', dims, data }];
}
