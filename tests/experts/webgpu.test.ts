import { mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { parseDevice } from '#turnout/experts/device.js';
import { writeOnnxFile } from '#turnout/model/onnx-write.js';
import { startExpertProcess } from '../support/expert-process.js';
import { normals, referenceExpert, type TemporaryExperts, temporaryExperts } from '../support/experts.js';
import { NO_WEBGPU_ENV, WEBGPU_ENV, webgpuMissing } from '../support/webgpu.js';

if (webgpuMissing) console.warn(webgpuMissing);

const HIDDEN = 32;
const open = (path: string, residency = 'packed', profile: string | null = null) => ({
  ...{ op: 'open', files: [{ expert: 0, path }], residency, hidden: null, profile },
  device: parseDevice('webgpu'),
});

function start(env: Readonly<Record<string, string>> = WEBGPU_ENV) {
  const host = startExpertProcess(env);
  onTestFinished(() => void host.kill());
  return host;
}

/** `operator on provider` of every node that ran, from the profiles in a folder. */
async function profiledNodes(folder: string): Promise<string[]> {
  const nodes: string[] = [];
  for (const name of await readdir(folder)) {
    for (const { cat, args } of JSON.parse(await readFile(join(folder, name), 'utf8')))
      if (cat === 'Node') nodes.push(`${args.op_name} on ${args.provider}`);
  }
  return nodes;
}

describe.skipIf(webgpuMissing)('an expert process on webgpu', { timeout: 60_000 }, () => {
  const sets: Record<string, TemporaryExperts> = {};
  beforeAll(async () => {
    for (const activation of ['relu', 'swiglu'] as const)
      sets[activation] = await temporaryExperts({ experts: 1, hidden: HIDDEN, inner: 64, activation });
  });
  afterAll(() => Promise.all(Object.values(sets).map((set) => set.remove())));

  it.each([
    ['relu', 'packed'],
    ['relu', 'mapped'],
    ['swiglu', 'packed'],
    ['swiglu', 'mapped'],
  ] as const)('computes %s, %s, and nothing of it on the CPU', async (activation, residency) => {
    const set = sets[activation]!;
    const profile = join(set.folder, `profile-${residency}`);
    await mkdir(profile);
    const host = start();
    const opened = await host.ask(open(set.files[0]!.path, residency, profile));
    expect(opened.header).toMatchObject({ op: 'opened', hidden: HIDDEN });
    const random = normals(3);
    for (const rows of [1, 7, 64]) {
      const x = Float32Array.from({ length: rows * HIDDEN }, random);
      const matrix = { rows, cols: HIDDEN, buffer: x.buffer as ArrayBuffer };
      const { header, payload } = await host.ask({ op: 'run', batches: [[0, rows]] } as never, matrix);
      expect(header).toMatchObject({ op: 'ran', rows });
      const y = new Float32Array(payload);
      const errors = referenceExpert(set, 0, x).map((value, i) => Math.abs(value - y[i]!));
      expect(Math.max(...errors)).toBeLessThan(1e-4);
    }
    expect((await host.ask({ op: 'close' })).header).toMatchObject({ op: 'closed' });
    expect(await host.exited).toEqual([0, null]);
    const nodes = await profiledNodes(profile);
    expect(nodes).toContain('MatMul on WebGpuExecutionProvider');
    expect(nodes.filter((node) => !node.endsWith(' on WebGpuExecutionProvider'))).toEqual([]);
  });

  it('says that there is no adapter', async () => {
    const { header } = await start(NO_WEBGPU_ENV).ask(open(sets.relu!.files[0]!.path));
    expect(header).toMatchObject({
      op: 'failed',
      error: {
        code: 'TURNOUT_DEVICE_UNAVAILABLE',
        message: expect.stringMatching(/^webgpu: Failed to get a WebGPU adapter/),
      },
    });
  });

  it('refuses a graph with an operator that would run on the CPU', async () => {
    const path = join(sets.relu!.folder, 'hardmax.onnx');
    await writeOnnxFile(path, {
      inputs: [{ name: 'x', elemType: 'float32', dims: ['n', 4] }],
      outputs: [{ name: 'y', elemType: 'float32', dims: ['n', 4] }],
      nodes: [
        { op: 'Hardmax', inputs: ['x'], outputs: ['first'] },
        { op: 'Add', inputs: ['x', 'first'], outputs: ['y'] },
      ],
      initializers: [],
    });
    const { header } = await start().ask(open(path));
    expect(header).toMatchObject({
      op: 'failed',
      error: {
        code: 'TURNOUT_SESSION_FAILED',
        message: expect.stringMatching(/on webgpu: it has operators that webgpu cannot/),
      },
    });
  });
});
