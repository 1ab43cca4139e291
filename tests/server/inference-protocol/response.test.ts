import { text } from 'node:stream/consumers';
import { describe, expect, it } from 'vitest';
import { writeResponse } from '#turnout/server/inference-protocol/response.js';
import type { Tensor } from '#turnout/server/inference-protocol/served-model.js';

const tensors = new Map<string, Tensor>([
  ['a', { datatype: 'FP32', shape: [1, 3], data: Float32Array.of(0.1, -0, 3.4028234663852886e38) }],
  ['b', { datatype: 'INT64', shape: [2], data: BigInt64Array.of(2n ** 62n, -1n) }],
  ['c', { datatype: 'UINT8', shape: [0, 2], data: new Uint8Array(0) }],
  ['d', { datatype: 'INT32', shape: [1], data: new Int32Array([7, 8, 9]).subarray(1, 2) }],
]);

const asked = (...names: string[]) =>
  names.map((name) => ({ name: name.replace('!', ''), binary: name.endsWith('!') }));

describe('answers in JSON', () => {
  it('hold the outputs in the order asked for, their values exact', async () => {
    const { headers, body } = await writeResponse('m', { id: 'x"', outputs: asked('b', 'a', 'c') }, tensors);
    expect(headers).toEqual({ 'content-type': 'application/json; charset=utf-8' });
    expect(body).toContain('"data":[4611686018427387904,-1]');
    expect(JSON.parse(body as string)).toEqual({
      model_name: 'm',
      model_version: '1',
      id: 'x"',
      outputs: [
        { name: 'b', datatype: 'INT64', shape: [2], data: [2 ** 62, -1] },
        { name: 'a', datatype: 'FP32', shape: [1, 3], data: [Math.fround(0.1), 0, 3.4028234663852886e38] },
        { name: 'c', datatype: 'UINT8', shape: [0, 2], data: [] },
      ],
    });
  });

  it('come in parts where they are long, and others are served between them', async () => {
    const data = Float32Array.from({ length: 100_001 }, (_, i) => i / 7);
    const long = new Map<string, Tensor>([['a', { datatype: 'FP32', shape: [100_001], data }]]);
    const { body } = await writeResponse('m', { outputs: asked('a') }, long);
    let turns = 0;
    const counting = setInterval(() => turns++, 0);
    const read = await text(body as NodeJS.ReadableStream);
    clearInterval(counting);
    expect(JSON.parse(read).outputs[0].data).toEqual(Array.from(data));
    expect(turns).toBeGreaterThan(2);
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])('refuse %s', async (value) => {
    const bad = new Map<string, Tensor>([
      ['a', { datatype: 'FP32', shape: [2], data: Float32Array.of(1, value) }],
    ]);
    await expect(writeResponse('m', { outputs: asked('a') }, bad)).rejects.toThrow(
      expect.objectContaining({
        code: 'TURNOUT_OUTPUT_NOT_FINITE',
        message: expect.stringMatching(/output a: value 1 is .* ask for it as binary data/),
      }),
    );
    const { body } = await writeResponse('m', { outputs: asked('a!') }, bad);
    expect((body as Buffer).readFloatLE((body as Buffer).length - 4)).toBe(value);
  });
});

describe('answers with binary tensors', () => {
  it('put them behind the JSON in its order, beside those that stay in it', async () => {
    const { headers, body } = await writeResponse('m', { outputs: asked('d!', 'a', 'b!') }, tensors);
    expect(headers['content-type']).toBe('application/octet-stream');
    const bytes = body as Buffer;
    const length = Number(headers['inference-header-content-length']);
    const { outputs } = JSON.parse(bytes.subarray(0, length).toString());
    expect(outputs[0]).toEqual({
      name: 'd',
      datatype: 'INT32',
      shape: [1],
      parameters: { binary_data_size: 4 },
    });
    expect(outputs[1].data).toHaveLength(3);
    expect(outputs[2]).not.toHaveProperty('data');
    const tail = bytes.subarray(length);
    expect(tail).toHaveLength(4 + 16);
    expect(tail.readInt32LE(0)).toBe(8);
    expect(tail.readBigInt64LE(4)).toBe(2n ** 62n);
    expect(tail.readBigInt64LE(12)).toBe(-1n);
  });

  it('say so where a binary tensor is empty', async () => {
    const { headers, body } = await writeResponse('m', { outputs: asked('c!') }, tensors);
    expect(headers['inference-header-content-length']).toBe(String((body as Buffer).length));
    expect(JSON.parse(String(body)).outputs[0].parameters).toEqual({ binary_data_size: 0 });
  });
});
