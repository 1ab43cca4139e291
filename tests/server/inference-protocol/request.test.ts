import { describe, expect, it } from 'vitest';
import { DEFAULT_LIMITS } from '#turnout/server/inference-protocol/limits.js';
import { readRequest } from '#turnout/server/inference-protocol/request.js';
import { Ids, scaled } from '../../support/served.js';

const ids = new Ids();

function read(body: unknown, options: { tail?: Uint8Array; model?: typeof scaled; header?: string } = {}) {
  const { tail, model = ids } = options;
  const json = Buffer.from(typeof body === 'string' ? body : JSON.stringify(body));
  const bytes = tail ? Buffer.concat([json, tail]) : json;
  const headerLength = options.header ?? (tail ? String(json.length) : undefined);
  return readRequest({ bytes, ...(headerLength !== undefined && { headerLength }) }, model, DEFAULT_LIMITS);
}

function input(over: object = {}) {
  return { name: 'ids', shape: [3], datatype: 'INT64', data: [1, 2, 3], ...over };
}

const idsOf = (request: ReturnType<typeof read>) => request.inputs.get('ids')!;

function refused(code: string, message: RegExp) {
  return expect.objectContaining({ code, message: expect.stringMatching(message) });
}

describe('JSON requests', () => {
  it('takes flat and nested data of the shapes that a model has', () => {
    expect(idsOf(read({ inputs: [input()] }))).toEqual({
      datatype: 'INT64',
      shape: [3],
      data: BigInt64Array.of(1n, 2n, 3n),
    });
    const flat = read({ inputs: [input({ shape: [2, 2], data: [1, 2, 3, 4] })] });
    const nested = read({
      inputs: [
        input({
          shape: [2, 2],
          data: [
            [1, 2],
            [3, 4],
          ],
        }),
      ],
    });
    expect(idsOf(nested)).toEqual(idsOf(flat));
    expect(idsOf(read({ inputs: [input({ shape: [2, 0], data: [[], []] })] })).data).toHaveLength(0);
  });

  it('keeps the id, and gives all outputs in JSON where none is named', () => {
    const request = read({ id: 'a "b" \u0000', inputs: [input()] });
    expect(request.id).toBe('a "b" \u0000');
    expect(request.priority).toBe(0);
    expect(request).not.toHaveProperty('timeoutMs');
    expect(request.outputs.map(({ name, binary }) => `${name} ${binary}`)).toEqual([
      'same false',
      'half false',
      'low false',
      'byte false',
    ]);
  });

  it('gives the outputs that are named, in their order, each as it is asked for', () => {
    const outputs = [{ name: 'low' }, { name: 'same', parameters: { binary_data: false } }];
    const request = read({ inputs: [input()], outputs, parameters: { binary_data_output: true } });
    expect(request.outputs).toEqual([
      { name: 'low', binary: true },
      { name: 'same', binary: false },
    ]);
    expect(read({ inputs: [input()], outputs: [] }).outputs).toHaveLength(4);
  });

  it('reads timeout in microseconds and priority as Triton has them', () => {
    const request = read({ inputs: [input()], parameters: { timeout: 2_500_000, priority: 5 } });
    expect(request).toMatchObject({ timeoutMs: 2500, priority: 5 });
    expect(read({ inputs: [input()], parameters: { timeout: 1 } }).timeoutMs).toBe(1);
    expect(read({ inputs: [input()], parameters: { timeout: 0 } })).not.toHaveProperty('timeoutMs');
    const longest = read({ inputs: [input()], parameters: { timeout: Number.MAX_SAFE_INTEGER } });
    expect(longest.timeoutMs).toBe(2 ** 31 - 1);
  });

  it('takes the sequence parameters that say nothing', () => {
    const parameters = { sequence_id: 0, sequence_start: false, sequence_end: false };
    expect(read({ inputs: [input()], parameters }).priority).toBe(0);
  });

  it.each([
    ['an unknown parameter', { parameters: { tempo: 1 } }, 'REQUEST_INVALID', /\/parameters\/tempo/],
    ['a reserved parameter', '{"parameters":{"__proto__":1},"inputs":[]}', 'REQUEST_INVALID', /__proto__/],
    ['an unknown field', { input: [] }, 'REQUEST_INVALID', /\/input: no such field/],
    ['a sequence', { parameters: { sequence_id: 7 } }, 'UNSUPPORTED', /no model here keeps a state/],
    ['a sequence by name', { parameters: { sequence_id: 's' } }, 'UNSUPPORTED', /sequence_id/],
    ['the start of a sequence', { parameters: { sequence_start: true } }, 'UNSUPPORTED', /sequence_start/],
    ['a negative timeout', { parameters: { timeout: -1 } }, 'REQUEST_INVALID', /\/parameters\/timeout/],
    ['a timeout in parts', { parameters: { timeout: 0.5 } }, 'REQUEST_INVALID', /\/parameters\/timeout/],
    ['a priority of 6', { parameters: { priority: 6 } }, 'REQUEST_INVALID', /\/parameters\/priority/],
    [
      'an unknown output',
      { outputs: [{ name: 'logit' }] },
      'INPUT_INVALID',
      /no output "logit"; it gives same/,
    ],
    ['an output twice', { outputs: [{ name: 'low' }, { name: 'low' }] }, 'INPUT_INVALID', /low stands twice/],
    [
      'a classification',
      { outputs: [{ name: 'low', parameters: { classification: 3 } }] },
      'REQUEST_INVALID',
      /classification/,
    ],
    ['another model', { model_name: 'other' }, 'REQUEST_INVALID', /model_name: expected ids/],
    ['no inputs', { inputs: [] }, 'REQUEST_INVALID', /\/inputs/],
    [
      'an unknown input',
      { inputs: [input({ name: 'input_ids' })] },
      'INPUT_INVALID',
      /no input "input_ids"; it takes ids/,
    ],
    ['a reserved name', { inputs: [input({ name: '__proto__' })] }, 'INPUT_INVALID', /no input "__proto__"/],
    [
      'an inherited name',
      { inputs: [input({ name: 'constructor' })] },
      'INPUT_INVALID',
      /no input "constructor"/,
    ],
    ['an input twice', { inputs: [input(), input()] }, 'INPUT_INVALID', /ids stands twice/],
    [
      'shared memory',
      { inputs: [input({ parameters: { shared_memory_region: 'a' } })] },
      'REQUEST_INVALID',
      /shared_memory_region/,
    ],
  ] as const)('refuses %s', (_, over, code, message) => {
    const body = typeof over === 'string' ? over : { inputs: [input()], ...over };
    expect(() => read(body)).toThrow(refused(`TURNOUT_${code}`, message));
    expect(Object.hasOwn(Object.prototype, 'binary_data')).toBe(false);
  });

  it('names a missing input', () => {
    const x = { name: 'x', shape: [1, 4], datatype: 'FP32', data: [1, 2, 3, 4] };
    expect(() => read({ inputs: [x] }, { model: scaled })).toThrow(
      refused('TURNOUT_INPUT_INVALID', /scale is missing/),
    );
  });
});

describe('datatypes and values', () => {
  it.each([
    ['INT32', /expected the datatype INT64, got INT32, which is not converted/],
    ['FP16', /got FP16, which is not converted/],
    ['BYTES', /got BYTES, which is not converted/],
    ['int64', /got "int64", which is no datatype/],
    ['__proto__', /which is no datatype/],
  ])('refuses the datatype %s', (datatype, message) => {
    expect(() => read({ inputs: [input({ datatype })] })).toThrow(refused('TURNOUT_INPUT_INVALID', message));
  });

  it.each([
    ['a string', '"2"'],
    ['a part', '2.5'],
    ['true', 'true'],
    ['null', 'null'],
    ['an object', '{"a":1}'],
    ['a list', '[2]'],
    ['2^53, which JSON cannot hold for sure', '9007199254740992'],
    ['a number beyond doubles', '1e400'],
  ])('refuses %s among INT64 values', (_, value) => {
    const body = `{"inputs":[{"name":"ids","shape":[3],"datatype":"INT64","data":[1,${value},3]}]}`;
    expect(() => read(body)).toThrow(refused('TURNOUT_INPUT_INVALID', /value 1 of its data: expected INT64/));
  });

  it('takes the largest integers that are exact', () => {
    const data = [Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER, -0];
    expect(idsOf(read({ inputs: [input({ data })] })).data).toEqual(
      BigInt64Array.of(2n ** 53n - 1n, -(2n ** 53n) + 1n, 0n),
    );
  });

  it('refuses numbers beyond float32, and rounds the others to it', () => {
    const body = (value: number) => ({
      inputs: [
        { name: 'x', shape: [1, 4], datatype: 'FP32', data: [0, value, 0, 0] },
        { name: 'scale', shape: [1], datatype: 'FP32', data: [1] },
      ],
    });
    expect(() => read(body(3.5e38), { model: scaled })).toThrow(
      refused('TURNOUT_INPUT_INVALID', /float32, got 3\.5e\+38/),
    );
    expect(read(body(0.1), { model: scaled }).inputs.get('x')!.data[1]).toBe(Math.fround(0.1));
    expect(read(body(3.4028234e38), { model: scaled }).inputs.get('x')!.data[1]).toBe(3.4028234663852886e38);
  });
});

describe('shapes', () => {
  it.each([
    ['negative', [-1], 'REQUEST_INVALID', /\/inputs\/0\/shape\/0/],
    ['in parts', [1.5], 'REQUEST_INVALID', /\/inputs\/0\/shape\/0/],
    [
      'of three dimensions',
      [1, 1, 3],
      'SHAPE_MISMATCH',
      /expected the shape \[-1, -1\] or \[-1\] \(-1: any\), got \[1, 1, 3\]/,
    ],
    ['of no dimension', [], 'SHAPE_MISMATCH', /got \[\]/],
    ['of another length', [4], 'SHAPE_MISMATCH', /expected 4 values of data for the shape \[4\], got 3/],
    ['of 2^31 values', [2 ** 31], 'SHAPE_MISMATCH', /expected 2147483648 values/],
    [
      'whose product overflows',
      [2 ** 52, 2 ** 52],
      'SHAPE_MISMATCH',
      /more values than any request can hold/,
    ],
    [
      'that hides a huge dimension behind 0',
      [2 ** 52, 0],
      'SHAPE_MISMATCH',
      /more values than any request can hold/,
    ],
  ] as const)('refuses a shape %s', (_, shape, code, message) => {
    expect(() => read({ inputs: [input({ shape })] })).toThrow(refused(`TURNOUT_${code}`, message));
  });

  it.each([
    ['ragged', [[1, 2], [3]], /lists of 2 in level 2 of data for the shape \[2, 2\], got one of 1/],
    ['too short', [[1, 2]], /lists of 2 in level 1 of data .* got one of 1/],
    ['half flat', [[1, 2], 3], /lists of 2 in level 2 .* got 3/],
  ])('refuses data that is %s', (_, data, message) => {
    expect(() => read({ inputs: [input({ shape: [2, 2], data })] })).toThrow(
      refused('TURNOUT_SHAPE_MISMATCH', message),
    );
  });

  it('refuses lists deeper than the shape, fast, however deep they are', () => {
    expect(() => read({ inputs: [input({ data: [[[1]]], shape: [1] })] })).toThrow(
      refused('TURNOUT_INPUT_INVALID', /value 0/),
    );
    const deep = `{"inputs":[{"name":"ids","shape":[1],"datatype":"INT64","data":${'['.repeat(4e5)}${']'.repeat(4e5)}}]}`;
    const from = performance.now();
    expect(() => read(deep)).toThrow(refused('TURNOUT_REQUEST_INVALID', /32 levels of nesting/));
    expect(performance.now() - from).toBeLessThan(100);
  });

  it('reserves no memory for values that did not come', () => {
    const body = { inputs: [input({ shape: [2 ** 31 - 1, 1], datatype: 'INT64', data: [[1]] })] };
    const before = process.memoryUsage().arrayBuffers;
    expect(() => read(body)).toThrow(refused('TURNOUT_SHAPE_MISMATCH', /level 1/));
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1e6);
  });
});

describe('binary tensors', () => {
  const binary = (size: number, over: object = {}) => ({
    name: 'ids',
    shape: [2],
    datatype: 'INT64',
    parameters: { binary_data_size: size },
    ...over,
  });
  const two = new Uint8Array(BigInt64Array.of(5n, -(2n ** 62n)).buffer);

  it('are read behind JSON of any length, and own their memory', () => {
    for (const id of ['', 'a', 'ab', 'abc', 'abcd', 'abcde', 'abcdef', 'abcdefg']) {
      const { data } = idsOf(read({ id, inputs: [binary(16)] }, { tail: two }));
      expect(data).toEqual(BigInt64Array.of(5n, -(2n ** 62n)));
      expect(data.buffer.byteLength).toBe(16);
    }
  });

  it('stand beside JSON ones, in the order of the inputs', () => {
    const x = { name: 'x', shape: [1, 4], datatype: 'FP32', parameters: { binary_data_size: 16 } };
    const scale = { name: 'scale', shape: [1], datatype: 'FP32' };
    const values = Float32Array.of(1, 2, 3, Number.NaN);
    const tail = new Uint8Array(values.buffer);
    const mixed = read({ inputs: [{ ...scale, data: [7] }, x] }, { tail, model: scaled });
    expect(mixed.inputs.get('x')!.data).toEqual(values);
    expect(mixed.inputs.get('scale')!.data[0]).toBe(7);
    const both = { inputs: [{ ...scale, parameters: { binary_data_size: 4 } }, x] };
    const joined = Buffer.concat([new Uint8Array(Float32Array.of(9).buffer), tail]);
    expect(read(both, { tail: joined, model: scaled }).inputs.get('scale')!.data[0]).toBe(9);
  });

  it.each([
    [
      'a size that is not the shape',
      { inputs: [binary(8)] },
      two,
      'SHAPE_MISMATCH',
      /binary_data_size 16 for INT64 \[2\], got 8/,
    ],
    [
      'a claim of 2 GB',
      { inputs: [binary(2 ** 31, { shape: [2 ** 28] })] },
      two,
      'REQUEST_INVALID',
      /expected 2147483648 bytes of binary data, 16 are left/,
    ],
    [
      'a body that is cut off',
      { inputs: [binary(16)] },
      two.subarray(1),
      'REQUEST_INVALID',
      /16 bytes of binary data, 15 are left/,
    ],
    [
      'bytes that nothing asked for',
      { inputs: [binary(16)] },
      Buffer.concat([two, two]),
      'REQUEST_INVALID',
      /16 bytes more/,
    ],
    ['data and bytes', { inputs: [binary(16, { data: [1, 2] })] }, two, 'INPUT_INVALID', /got both/],
    [
      'neither data nor bytes',
      { inputs: [input({ data: undefined })] },
      new Uint8Array(),
      'INPUT_INVALID',
      /got neither/,
    ],
  ] as const)('refuses %s', (_, body, tail, code, message) => {
    expect(() => read(body, { tail })).toThrow(refused(`TURNOUT_${code}`, message));
  });

  it('asks for the header that says where JSON ends', () => {
    expect(() => read({ inputs: [binary(16)] })).toThrow(
      refused('TURNOUT_REQUEST_INVALID', /needs the header/),
    );
  });

  it.each(['-1', '1.5', '0x10', '', 'abc', '99999', '1e3', '10, 10'])('refuses the header %j', (header) => {
    const message = /Inference-Header-Content-Length: expected a whole number up to/;
    expect(() => read({ inputs: [input()] }, { header })).toThrow(
      refused('TURNOUT_REQUEST_INVALID', message),
    );
  });
});

describe('raw bodies', () => {
  const raw = (bytes: Uint8Array, model: typeof scaled = ids) =>
    readRequest({ bytes, headerLength: '0' }, model, DEFAULT_LIMITS);

  it('are one tensor, whose shape follows from its length, answered in binary', () => {
    const request = raw(new Uint8Array(BigInt64Array.of(1n, 2n, 3n).buffer));
    expect(idsOf(request)).toEqual({ datatype: 'INT64', shape: [3], data: BigInt64Array.of(1n, 2n, 3n) });
    expect(request.outputs.every(({ binary }) => binary)).toBe(true);
  });

  it('are refused where the length fits no shape, or the model takes more', () => {
    expect(() => raw(new Uint8Array(9))).toThrow(
      refused('TURNOUT_SHAPE_MISMATCH', /multiple of 8 bytes .* got 9/),
    );
    expect(() => raw(new Uint8Array(16), scaled)).toThrow(
      refused('TURNOUT_REQUEST_INVALID', /takes 2 inputs/),
    );
  });

  it('are refused where two dimensions are free', () => {
    const open = { ...scaled, inputs: [{ name: 'x', datatype: 'FP32', shape: [-1, -1] }] } as const;
    expect(() => raw(new Uint8Array(16), open)).toThrow(refused('TURNOUT_REQUEST_INVALID', /cannot be told/));
  });
});

describe('limits', () => {
  it('holds JSON to its own, behind which binary tensors may be larger', () => {
    const limits = { jsonBytes: 200 };
    const long = Buffer.from(JSON.stringify({ inputs: [input({ shape: [200], data: Array(200).fill(1) })] }));
    expect(() => readRequest({ bytes: long }, ids, limits)).toThrow(
      refused(
        'TURNOUT_REQUEST_TOO_LARGE',
        /at most 200 bytes of JSON, got \d+: send large tensors as binary data/,
      ),
    );
    const head = Buffer.from(
      JSON.stringify({
        inputs: [input({ shape: [100], data: undefined, parameters: { binary_data_size: 800 } })],
      }),
    );
    const bytes = Buffer.concat([head, new Uint8Array(800)]);
    const { inputs } = readRequest({ bytes, headerLength: String(head.length) }, ids, limits);
    expect(inputs.get('ids')!.data).toHaveLength(100);
  });
});
