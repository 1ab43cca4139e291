import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { wholeBatch } from '#turnout/experts/batches.js';
import { openProcesses } from '#turnout/experts/processes.js';
import { writeOnnxFile } from '#turnout/model/onnx-write.js';

import { turnout } from '../support/cli.js';
import { normals, referenceExpert, type TemporaryExperts, temporaryExperts } from '../support/experts.js';
import { NO_WEBGPU_ENV, WEBGPU_ENV, webgpuMissing } from '../support/webgpu.js';

if (webgpuMissing) console.warn(webgpuMissing);

const HIDDEN = 32;
const DEVICES = { devices: ['webgpu'] };

/** Expert processes started while `work` runs get these variables from this one. */
async function withEnvironment<T>(env: Readonly<Record<string, string>>, work: () => Promise<T>): Promise<T> {
  const before = Object.fromEntries(Object.keys(env).map((key) => [key, process.env[key]]));
  Object.assign(process.env, env);
  try {
    return await work();
  } finally {
    for (const [key, value] of Object.entries(before)) {
      if (value === undefined) delete process.env[key];
      else process.env[key] = value;
    }
  }
}

/** `operator on provider` of every node that ran, from the profiles in a folder. */
async function profiledNodes(folder: string): Promise<string[]> {
  const nodes: string[] = [];
  const names = (await readdir(folder, { recursive: true })).filter((name) => name.endsWith('.json'));
  for (const name of names) {
    for (const { cat, args } of JSON.parse(await readFile(join(folder, name), 'utf8')))
      if (cat === 'Node') nodes.push(`${args.op_name} on ${args.provider}`);
  }
  return nodes;
}

describe.skipIf(webgpuMissing)('expert processes on webgpu', { timeout: 60_000 }, () => {
  const sets: Record<string, TemporaryExperts> = {};
  beforeAll(async () => {
    for (const activation of ['relu', 'swiglu'] as const)
      sets[activation] = await temporaryExperts({ experts: 2, hidden: HIDDEN, inner: 64, activation });
  });
  afterAll(() => Promise.all(Object.values(sets).map((set) => set.remove())));

  it.each([
    ['relu', 'packed'],
    ['relu', 'mapped'],
    ['swiglu', 'packed'],
    ['swiglu', 'mapped'],
  ] as const)('computes %s, %s, and nothing of it on the CPU', (activation, residency) =>
    withEnvironment(WEBGPU_ENV, async () => {
      const set = sets[activation]!;
      const profile = join(set.folder, `profile-${residency}`);
      await using backend = await openProcesses(set.files, { ...DEVICES, residency, profile });
      expect(backend.lanes()).toMatchObject([{ device: 'webgpu', provider: 'webgpu', experts: [0, 1] }]);
      const random = normals(3);
      for (const rows of [1, 7, 64]) {
        const x = [0, 1].map(() => Float32Array.from({ length: rows * HIDDEN }, random));
        const { outputs } = await backend.run(x.map((own, expert) => wholeBatch(expert, own, HIDDEN)));
        for (const expert of [0, 1]) {
          const errors = referenceExpert(set, expert, x[expert]!).map((value, i) =>
            Math.abs(value - outputs[expert]![i]!),
          );
          expect(Math.max(...errors)).toBeLessThan(1e-4);
        }
      }
      await backend.close();
      const nodes = await profiledNodes(profile);
      expect(nodes).toContain('MatMul on WebGpuExecutionProvider');
      expect(nodes.filter((node) => !node.endsWith(' on WebGpuExecutionProvider'))).toEqual([]);
    }),
  );

  it('says that there is no adapter', () =>
    withEnvironment(NO_WEBGPU_ENV, async () => {
      await expect(openProcesses(sets.relu!.files, DEVICES)).rejects.toMatchObject({
        code: 'TURNOUT_DEVICE_UNAVAILABLE',
        message: expect.stringMatching(/^webgpu: Failed to get a WebGPU adapter/),
      });
    }));

  it('refuses a graph with an operator that would run on the CPU', () =>
    withEnvironment(WEBGPU_ENV, async () => {
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
      await expect(openProcesses([{ path }], DEVICES)).rejects.toMatchObject({
        code: 'TURNOUT_SESSION_FAILED',
        message: expect.stringMatching(/on webgpu: it has operators that webgpu cannot/),
      });
    }));

  it('runs the experts of the bundled package', async () => {
    const args = ['run', 'The ', '-n', '4', '--json', '--backend', 'processes', '--devices', 'webgpu'];
    const { out, code } = await turnout(args, '', WEBGPU_ENV);
    expect(code).toBe(0);
    const { tokens, lanes } = JSON.parse(out);
    expect(tokens).toHaveLength(4);
    expect(lanes).toMatchObject([{ device: 'webgpu', provider: 'webgpu', restarts: 0 }]);
    expect(lanes[0].rows).toBeGreaterThan(0);
  });
});
