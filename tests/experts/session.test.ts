import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openSession, runtimeInfo } from '#turnout/experts/session.js';
import { writeOnnxFile } from '#turnout/model/onnx-write.js';
import { type TemporaryExperts, temporaryExperts } from '../support/experts.js';

describe('session', () => {
  let set: TemporaryExperts;
  let lookup: string;

  beforeAll(async () => {
    set = await temporaryExperts({ experts: 1, hidden: 8, inner: 16, activation: 'relu' });
    lookup = join(set.folder, 'lookup.onnx');
    // rows [n, 3] = table [4, 3] at ids [n]; next [n] = ids + 1
    await writeOnnxFile(lookup, {
      inputs: [{ name: 'ids', elemType: 'int64', dims: ['n'] }],
      outputs: [
        { name: 'rows', elemType: 'float32', dims: ['n', 3] },
        { name: 'next', elemType: 'int64', dims: ['n'] },
      ],
      nodes: [
        { op: 'Gather', inputs: ['table', 'ids'], outputs: ['rows'], attributes: { axis: { int: 0 } } },
        { op: 'Add', inputs: ['ids', 'one'], outputs: ['next'] },
      ],
      initializers: [
        { name: 'table', dims: [4, 3], data: Float32Array.from({ length: 12 }, (_, i) => i) },
        { name: 'one', dims: [], data: BigInt64Array.of(1n) },
      ],
    });
  });
  afterAll(() => set.remove());

  it('says what a graph takes and gives', async () => {
    await using session = await openSession(lookup);
    expect(session.inputMetadata).toEqual([{ name: 'ids', type: 'int64', shape: ['n'] }]);
    expect(session.outputMetadata).toEqual([
      { name: 'rows', type: 'float32', shape: ['n', 3] },
      { name: 'next', type: 'int64', shape: ['n'] },
    ]);
  });

  it.each(['packed', 'mapped'] as const)(
    'runs integers, views and tensors without elements: %s',
    async (residency) => {
      await using session = await openSession(lookup, { residency });
      const ids = BigInt64Array.of(9n, 3n, 0n).subarray(1);
      expect(await session.run({ ids: { type: 'int64', dims: [2], data: ids } })).toEqual({
        rows: { type: 'float32', dims: [2, 3], data: Float32Array.of(9, 10, 11, 0, 1, 2) },
        next: { type: 'int64', dims: [2], data: BigInt64Array.of(4n, 1n) },
      });
      expect(await session.run({ ids: { type: 'int64', dims: [0], data: new BigInt64Array(0) } })).toEqual({
        rows: { type: 'float32', dims: [0, 3], data: new Float32Array(0) },
        next: { type: 'int64', dims: [0], data: new BigInt64Array(0) },
      });
    },
  );

  it('gives only the outputs that are asked for', async () => {
    await using session = await openSession(lookup);
    const outputs = await session.run({ ids: { type: 'int64', dims: [1], data: BigInt64Array.of(2n) } }, [
      'next',
    ]);
    expect(outputs).toEqual({ next: { type: 'int64', dims: [1], data: BigInt64Array.of(3n) } });
  });

  it('opens a model from its file or says why not', async () => {
    const broken = join(set.folder, 'broken.onnx');
    await writeFile(broken, 'no graph');
    await expect(openSession(broken)).rejects.toMatchObject({
      code: 'TURNOUT_SESSION_FAILED',
      details: { file: broken },
    });
    for (const absent of [join(set.folder, 'absent.onnx'), set.folder]) {
      await expect(openSession(absent)).rejects.toMatchObject({ code: 'TURNOUT_FILE_MISSING' });
    }
  });

  it('reports what ONNX Runtime refuses', async () => {
    await using session = await openSession(lookup);
    const feeds = [
      {},
      { ids: { type: 'float32', dims: [1], data: Float32Array.of(1) } },
      { ids: { type: 'int64', dims: [2], data: BigInt64Array.of(1n) } },
      { ids: { type: 'int64', dims: [1], data: BigInt64Array.of(99n) } },
    ] as const;
    for (const feed of feeds) {
      await expect(session.run(feed)).rejects.toMatchObject({
        code: 'TURNOUT_SESSION_FAILED',
        details: { file: lookup },
      });
    }
  });

  it('finishes its runs before it is released, and is closed then', async () => {
    const session = await openSession(lookup);
    const feed = { ids: { type: 'int64', dims: [1], data: BigInt64Array.of(1n) } } as const;
    const running = session.run(feed);
    const released = session.release();
    await expect(session.run(feed)).rejects.toMatchObject({ code: 'TURNOUT_CLOSED' });
    expect((await running).next!.data).toEqual(BigInt64Array.of(2n));
    await released;
    await session.release();
  });

  it('gives packed and mapped experts the same numbers but for rounding', async () => {
    await using packed = await openSession(set.files[0]!.path, { residency: 'packed' });
    await using mapped = await openSession(set.files[0]!.path, { residency: 'mapped' });
    const x = {
      type: 'float32',
      dims: [3, 8],
      data: Float32Array.from({ length: 24 }, (_, i) => Math.sin(i)),
    } as const;
    const [a, b] = [(await packed.run({ x })).y!.data, (await mapped.run({ x })).y!.data];
    for (const [i, value] of (a as Float32Array).entries()) expect(value).toBeCloseTo(b[i] as number, 5);
  });
});

describe('providers', () => {
  it('lists what the runtime brings', () => {
    const { onnxruntime, providers } = runtimeInfo();
    expect(onnxruntime).toMatch(/^\d+\.\d+\.\d+/);
    expect(providers).toContainEqual({ name: 'cpu', bundled: true });
  });
});
