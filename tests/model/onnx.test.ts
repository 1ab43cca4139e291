import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TurnoutError } from '#turnout/errors.js';
import { openSession } from '#turnout/experts/session.js';
import { ONNX_LIMITS, readOnnx, readOnnxFile } from '#turnout/model/onnx.js';
import { encodeModel } from '#turnout/model/onnx-proto.js';
import { type OnnxGraph, writeOnnx, writeOnnxFile } from '#turnout/model/onnx-write.js';
import { type TemporaryExperts, temporaryExperts } from '../support/experts.js';

const GRAPH: OnnxGraph = {
  inputs: [{ name: 'x', elemType: 'float32', dims: ['n', 3] }],
  outputs: [{ name: 'y', elemType: 'float32', dims: ['n', 2] }],
  nodes: [{ op: 'MatMul', inputs: ['x', 'w'], outputs: ['y'] }],
  initializers: [
    { name: 'w', dims: [3, 2], data: Float32Array.of(1, 2, 3, 4, 5, 6) },
    { name: 'steps', dims: [2], data: BigInt64Array.of(1n, -1n) },
  ],
};

describe('ONNX files', () => {
  let set: TemporaryExperts;
  beforeAll(async () => {
    set = await temporaryExperts({ experts: 1, hidden: 32, inner: 40, activation: 'swiglu' });
  });
  afterAll(() => set.remove());

  it('are read as they are written', () => {
    expect(readOnnx(writeOnnx(GRAPH))).toEqual({
      inputs: GRAPH.inputs,
      outputs: GRAPH.outputs,
      initializers: [
        { name: 'w', dims: [3, 2], dtype: 'float32', bytes: 24 },
        { name: 'steps', dims: [2], dtype: 'int64', bytes: 16 },
      ],
      parameters: 6,
    });
  });

  it('are run by ONNX Runtime, with every kind of attribute', async () => {
    const path = join(set.folder, 'attributes.onnx');
    await writeOnnxFile(path, {
      inputs: [{ name: 'x', elemType: 'float32', dims: [1, 2] }],
      outputs: [{ name: 'y', elemType: 'float32', dims: [2, 1] }],
      nodes: [
        { op: 'Transpose', inputs: ['x'], outputs: ['t'], attributes: { perm: { ints: [1, 0] } } },
        { op: 'LeakyRelu', inputs: ['t'], outputs: ['r'], attributes: { alpha: { float: 0.5 } } },
        { op: 'Gelu', domain: 'com.microsoft', inputs: ['r'], outputs: ['g'] },
        {
          op: 'DepthToSpace',
          inputs: ['four'],
          outputs: ['d'],
          attributes: { blocksize: { int: 1 }, mode: { string: 'CRD' } },
        },
        { op: 'Sub', inputs: ['r', 'd'], outputs: ['e'] },
        { op: 'Reshape', inputs: ['e', 'shape'], outputs: ['y'] },
      ],
      initializers: [
        { name: 'four', dims: [1, 1, 1, 1], data: Float32Array.of(1) },
        { name: 'shape', dims: [2], data: BigInt64Array.of(2n, 1n) },
      ],
      opsets: { '': 17, 'com.microsoft': 1 },
    });
    await using session = await openSession(path);
    const { y } = await session.run({ x: { type: 'float32', dims: [1, 2], data: Float32Array.of(3, -4) } });
    expect(y).toEqual({ type: 'float32', dims: [2, 1], data: Float32Array.of(2, -3) });
  });

  it('keep large tensors page-aligned in a file beside them', async () => {
    const { initializers, parameters } = await readOnnxFile(set.files[0]!.path);
    expect(parameters).toBe(3 * 32 * 40);
    const bytes = 32 * 40 * 4;
    expect(initializers.map(({ external }) => external)).toEqual(
      [0, 8192, 16384].map((offset) => ({ location: 'expert-000.bin', offset, length: bytes })),
    );
    const data = await readFile(join(set.folder, 'expert-000.bin'));
    expect(data.length % 4096).toBe(0);
    const second = new Float32Array(data.buffer, data.byteOffset + 8192, 4);
    expect([...second]).toEqual([...(set.weightsOf(0).w2 as Float32Array).subarray(0, 4)]);
    expect((await stat(set.files[0]!.path)).size).toBeLessThan(1500);
  });

  it('may name tensors that lie in a file already', async () => {
    const own = await readOnnxFile(set.files[0]!.path);
    const w1 = own.initializers.find(({ name }) => name === 'w1')!;
    const path = join(set.folder, 'borrowed.onnx');
    await writeOnnxFile(path, {
      inputs: [{ name: 'x', elemType: 'float32', dims: [1, 32] }],
      outputs: [{ name: 'y', elemType: 'float32', dims: [1, 40] }],
      nodes: [{ op: 'MatMul', inputs: ['x', 'w1'], outputs: ['y'] }],
      initializers: [
        { name: 'w1', dims: [32, 40], type: 'float32', external: { ...w1.external!, length: w1.bytes } },
      ],
    });
    const first = new Float32Array(32);
    first[0] = 1;
    await using session = await openSession(path);
    const { y } = await session.run({ x: { type: 'float32', dims: [1, 32], data: first } });
    expect([...(y!.data as Float32Array)]).toEqual([
      ...(set.weightsOf(0).w1 as Float32Array).subarray(0, 40),
    ]);
  });

  it('refuse data that does not fit its shape', () => {
    const graph = { ...GRAPH, initializers: [{ name: 'w', dims: [3, 3], data: new Float32Array(6) }] };
    expect(() => writeOnnx(graph)).toThrowError(expect.objectContaining({ code: 'TURNOUT_SHAPE_MISMATCH' }));
  });
});

describe('what an ONNX file may hide', () => {
  const external = (location: string, extra: Record<string, string> = {}) => ({
    name: location,
    dims: [4],
    dataType: 1,
    dataLocation: 1,
    externalData: Object.entries({ location, ...extra }).map(([key, value]) => ({ key, value })),
  });
  const read = (graph: object, model: object = {}) => readOnnx(encodeModel({ graph, ...model }));
  const refused = (tensor: object) => () => read({ initializer: [tensor] });
  const invalid = (message: RegExp) =>
    expect.objectContaining({
      code: 'TURNOUT_PACKAGE_FILE_INVALID',
      message: expect.stringMatching(message),
    });

  it('shows the location of all data: constants, branches, sparse tensors, functions', () => {
    const inner = {
      initializer: [external('nested')],
      node: [{ attribute: [{ name: 'v', t: external('constant') }] }],
    };
    const { initializers } = read(
      {
        initializer: [external('../plain')],
        sparseInitializer: [{ values: external('sparse'), indices: external('indices') }],
        node: [
          {
            opType: 'If',
            attribute: [
              { name: 'then_branch', g: inner },
              { name: 'all', graphs: [inner] },
            ],
          },
          { opType: 'Constant', attribute: [{ name: 'many', tensors: [external('one'), external('two')] }] },
          { opType: 'Constant', attribute: [{ name: 's', sparseTensor: { values: external('third') } }] },
          { opType: 'Constant', attribute: [{ name: 's', sparseTensors: [{ values: external('fourth') }] }] },
        ],
      },
      {
        functions: [
          {
            attribute: [{ name: 'd', t: external('default') }],
            node: [{ attribute: [{ t: external('/body') }] }],
          },
        ],
      },
    );
    expect(initializers.map(({ external: data }) => data?.location).sort()).toEqual(
      [
        '../plain',
        'sparse',
        'indices',
        'nested',
        'constant',
        'nested',
        'constant',
        'one',
        'two',
        'third',
        'fourth',
        'default',
        '/body',
      ].sort(),
    );
  });

  it('reads where data lies, and refuses places that cannot be', () => {
    const [tensor] = read({
      initializer: [external('w.bin', { offset: '4096', length: '16' })],
    }).initializers;
    expect(tensor!.external).toEqual({ location: 'w.bin', offset: 4096, length: 16 });
    for (const [extra, message] of [
      [{ offset: '-1' }, /offset.*-1/],
      [{ offset: '1e9' }, /offset.*1e9/],
      [{ length: '0x10' }, /length.*0x10/],
      [{ length: '99999999999999999999' }, /length.*9999/],
    ] as const) {
      expect(refused(external('w.bin', extra))).toThrowError(invalid(message));
    }
    expect(refused({ ...external('w.bin'), externalData: [] })).toThrowError(invalid(/location/));
    const twice = external('w.bin').externalData;
    expect(refused({ ...external('w.bin'), externalData: [...twice, ...twice] })).toThrowError(
      invalid(/twice/),
    );
  });

  it('refuses shapes and types that cannot be', () => {
    const raw = { name: 'w', dims: [2], dataType: 1, rawData: new Uint8Array(8) };
    expect(read({ initializer: [raw] }).initializers[0]!.bytes).toBe(8);
    expect(refused({ ...raw, dims: [3] })).toThrowError(invalid(/needs 12 bytes, it has 8/));
    expect(refused({ ...raw, dims: [-1] })).toThrowError(invalid(/-1/));
    expect(refused({ ...raw, dims: [2 ** 40, 2 ** 40] })).toThrowError(invalid(/more than/));
    expect(refused({ ...raw, dims: new Array(33).fill(1) })).toThrowError(invalid(/at most 32 dimensions/));
    expect(refused({ ...raw, dataType: 0 })).toThrowError(invalid(/element type/));
    expect(refused({ ...raw, dataType: 99 })).toThrowError(invalid(/element type/));
    let deep: object = { initializer: [raw] };
    for (let i = 0; i <= ONNX_LIMITS.MAX_GRAPH_DEPTH; i++) deep = { node: [{ attribute: [{ g: deep }] }] };
    expect(() => read(deep)).toThrowError(invalid(/nested deeper/));
    expect(() => readOnnx(new Uint8Array(0))).toThrowError(invalid(/with a graph/));
  });

  it('counts two 4-bit values to a byte', () => {
    const [tensor] = read({
      initializer: [{ name: 'q', dims: [3, 3], dataType: 22, rawData: new Uint8Array(5) }],
    }).initializers;
    expect(tensor).toMatchObject({ dtype: 'int4', bytes: 5 });
  });

  it('is read or refused with a code, whatever the bytes', () => {
    const good = writeOnnx(GRAPH);
    fc.assert(
      fc.property(fc.nat(good.length - 1), fc.nat(255), fc.nat(good.length), (at, byte, end) => {
        const bytes = good.slice(0, Math.max(end, 1));
        if (at < bytes.length) bytes[at] = byte;
        try {
          readOnnx(bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(TurnoutError);
        }
      }),
      { numRuns: 3000 },
    );
  });

  it('is a file', async () => {
    await expect(readOnnxFile('/no/such/file.onnx')).rejects.toMatchObject({ code: 'TURNOUT_FILE_MISSING' });
  });
});
