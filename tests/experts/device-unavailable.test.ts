import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseDevice } from '#turnout/experts/device.js';
import { openSession, runtimeInfo } from '#turnout/experts/session.js';
import { type TemporaryExperts, temporaryExperts } from '../support/experts.js';

/** Comes with the command that adds CUDA to onnxruntime-node. */
const CUDA_LIBRARY = join(
  dirname(createRequire(import.meta.url).resolve('onnxruntime-node/package.json')),
  `bin/napi-v6/linux/${process.arch}/libonnxruntime_providers_cuda.so`,
);

const has = (provider: string) => runtimeInfo().providers.some(({ name }) => name === provider);

describe('a device that cannot be had', () => {
  const open = (path: string, device: string) => openSession(path, { device: parseDevice(device) });
  let set: TemporaryExperts;
  beforeAll(async () => {
    set = await temporaryExperts({ experts: 1, hidden: 8, inner: 16, activation: 'relu' });
  });
  afterAll(() => set.remove());

  it('is refused with the providers that there are', async () => {
    await expect(open(set.files[0]!.path, 'foo:0')).rejects.toMatchObject({
      code: 'TURNOUT_DEVICE_UNAVAILABLE',
      message: expect.stringMatching(
        /^foo:0: expected an execution provider of this build of ONNX Runtime \(cpu, .*\), got foo$/,
      ),
      details: { device: 'foo:0', known: expect.arrayContaining(['cpu']) },
    });
  });

  it.runIf(has('webgpu'))('is refused rather than replaced by another', async () => {
    await expect(open(set.files[0]!.path, 'webgpu:1')).rejects.toMatchObject({
      code: 'TURNOUT_DEVICE_UNAVAILABLE',
      message: expect.stringMatching(/^webgpu:1: ONNX Runtime chooses the device/),
    });
  });

  const lacksLibrary = has('cuda') && !existsSync(CUDA_LIBRARY);
  it.runIf(lacksLibrary)('says in one line that the library of a provider is not here', async () => {
    const failure = await open(set.files[0]!.path, 'cuda').catch((error) => error);
    expect(failure).toMatchObject({
      code: 'TURNOUT_DEVICE_UNAVAILABLE',
      message: expect.stringMatching(/^cuda: .*Failed to load shared library$/),
      details: { device: 'cuda', file: set.files[0]!.path, reason: expect.any(String) },
      cause: expect.any(Error),
    });
  });

  it.runIf(lacksLibrary)('is not blamed for a file that is damaged or absent', async () => {
    const broken = join(set.folder, 'broken.onnx');
    await writeFile(broken, 'no graph');
    await expect(open(broken, 'cuda')).rejects.toMatchObject({
      code: 'TURNOUT_SESSION_FAILED',
      message: expect.stringMatching(/protobuf/i),
    });
    await expect(open(join(set.folder, 'absent.onnx'), 'cuda')).rejects.toMatchObject({
      code: 'TURNOUT_FILE_MISSING',
    });
  });
});
