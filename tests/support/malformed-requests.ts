import fc from 'fast-check';
import {
  HIDDEN,
  idsBinary,
  idsJson,
  inBinary,
  inJson,
  type Json,
  LAYER,
  layerBinary,
  MODEL,
  type Parts,
  parts,
  type Sent,
  sent,
  TOKENS,
} from './infer-requests.js';

/* Requests that were changed such that they cannot be valid, whatever was drawn. */

/** A change of the request as an object. */
function changed(
  name: string,
  of: fc.Arbitrary<Parts>,
  values: readonly unknown[],
  change: (json: Json, value: unknown) => void,
) {
  return fc.tuple(of, fc.constantFrom(...values)).map(([all, value]) => {
    const json = structuredClone(all.json);
    change(json, value);
    return sent(`${name} ${String(JSON.stringify(value)).slice(0, 60)}`, { ...all, json });
  });
}

const first = (json: Json) => (json.inputs as Json[])[0]!;
const set = (key: string) => (json: Json, value: unknown) => {
  first(json)[key] = value;
};
/** As a field of its own, which an assignment would not make of `__proto__`. */
const define = (target: object, key: string, value: unknown) =>
  Object.defineProperty(target, key, { value, enumerable: true, configurable: true, writable: true });

const RESERVED = ['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty', 'valueOf'];
const JUNK = [null, true, 'x', '', -1, 0.5, [], {}, [[]], [null], { __proto__: null, a: 1 }];
const SHAPES = [
  ...[null, 3, '3', {}, [], [-1], [-1, HIDDEN], [0.5], ['3'], [null], [[1]], [1, 1, 1], [7, HIDDEN], [99]],
  ...[
    [2 ** 31],
    [2 ** 28, HIDDEN],
    [2 ** 53, 2],
    [1e308, 1e308],
    [2 ** 32, 2 ** 32],
    [0, 2 ** 52],
    [2 ** 52, 0],
  ],
  ...[[0], [0, HIDDEN], Array(9).fill(1), Array(1000).fill(1), [HIDDEN], [2, 64]],
];
const DATATYPES = [
  ...[
    'BOOL',
    'UINT8',
    'UINT16',
    'UINT32',
    'UINT64',
    'INT8',
    'INT16',
    'INT32',
    'FP16',
    'FP64',
    'BF16',
    'BYTES',
  ],
  ...['int64', 'fp32', 'INT64 ', '', '__proto__', 'constructor', null, 1, ['INT64'], {}],
];
const VALUES = ['1', '', null, true, 0.5, 1e300, -1, TOKENS, 2 ** 53, [1], {}, { a: 1 }];
const PARAMETERS: Json[] = [
  ...JUNK.filter((junk) => typeof junk !== 'object' || Array.isArray(junk)).map((timeout) => ({ timeout })),
  ...[6, -1, 0.5, '1', null, true, 2 ** 60].map((priority) => ({ priority })),
  ...[1, 's', -1].map((id) => ({ sequence_id: id })),
  ...[{ sequence_start: true }, { sequence_end: true }, { sequence_end: 0 }, { binary_data_output: 1 }],
  ...[{ triton_x: 1 }, { headers: {} }, { binary_data: true }, { constructor: 1 }],
];
const OUTPUTS = [
  ...['x', {}, [{}], [null], ['logits'], [{ name: 1 }], [{ name: '' }], [{ name: 'nothing' }]],
  ...RESERVED.map((name) => [{ name }]),
  ...[[{ name: 'logits', shape: [1] }], [{ name: 'logits', parameters: { classification: 2 } }]],
  ...[[{ name: 'logits', parameters: { binary_data: 1 } }], Array(65).fill({ name: 'logits' })],
];

const objectChanges: fc.Arbitrary<Sent>[] = [
  changed('without', parts, ['name', 'shape', 'datatype'], (json, key) => delete first(json)[key as string]),
  changed('without inputs', parts, [undefined], (json) => delete json.inputs),
  changed('inputs are', parts, [null, 'x', 1, [], [null], ['x'], [[]], [{}]], (json, value) => {
    json.inputs = value;
  }),
  changed(
    'name is',
    parts,
    [...RESERVED, null, 1, {}, ['input_ids'], 'Input_ids', 'input_ids\0', 'x'.repeat(201)],
    set('name'),
  ),
  changed(
    'shape is',
    parts,
    SHAPES.filter((shape) => JSON.stringify(shape) !== '[1]'),
    set('shape'),
  ),
  changed('datatype is', parts, DATATYPES, set('datatype')),
  changed(
    'data are',
    idsJson,
    [null, 'x', 1, {}, { length: 1 }, [[[]]], true, [], Array(50).fill(1)],
    set('data'),
  ),
  changed('data and bytes', inBinary, [[1], []], set('data')),
  changed('parameters are', parts, PARAMETERS, (json, value) => {
    json.parameters = value;
  }),
  changed('outputs are', parts, OUTPUTS, (json, value) => {
    json.outputs = value;
  }),
  changed('id is', parts, [null, 1, {}, [], true, 'x'.repeat(1001)], (json, value) => {
    json.id = value;
  }),
  changed('an unknown field', parts, [...RESERVED, 'Inputs', 'data', ''], (json, key) =>
    define(json, key as string, {}),
  ),
  changed('an unknown field of the input', parts, [...RESERVED, 'dtype', ''], (json, key) =>
    define(first(json), key as string, {}),
  ),
  changed('an unknown parameter of the input', parts, [...RESERVED, 'shared_memory_region'], (json, key) => {
    first(json).parameters = define({ ...(first(json).parameters as object) }, key as string, 1);
  }),
  changed('the input twice', parts, [undefined], (json) => (json.inputs as unknown[]).push(first(json))),
  changed('another input', parts, [...RESERVED, 'router_logits', 'mask'], (json, name) =>
    (json.inputs as unknown[]).unshift({ name, shape: [1], datatype: 'FP32', data: [1] }),
  ),
  changed(
    'binary_data_size is',
    inBinary,
    [0, 1, 7, -8, 0.5, '8', null, 2 ** 31, 2 ** 53, 1e300, 8000],
    (json, value) => {
      first(json).parameters = { binary_data_size: value };
    },
  ),
  changed('without bytes', inJson, [8], (json, value) => {
    first(json).parameters = { binary_data_size: value };
    delete first(json).data;
  }),
];

/** One value of the data that no tensor of the model can hold. */
const badValue = fc.tuple(idsJson, fc.constantFrom(...VALUES), fc.nat()).map(([all, value, at]) => {
  const json = structuredClone(all.json);
  const data = first(json).data as unknown[];
  data[at % data.length] = value;
  return sent(`value ${JSON.stringify(value)}`, { ...all, json });
});

const badToken = fc
  .tuple(idsBinary, fc.constantFrom(-1n, BigInt(TOKENS), 2n ** 62n, -(2n ** 63n)), fc.nat())
  .map(([all, token, at]) => {
    const tail = Buffer.from(all.tail!);
    tail.writeBigInt64LE(token, (at % (tail.length / 8)) * 8);
    return sent(`token ${token}`, { ...all, tail });
  });

const notFinite = fc
  .tuple(
    layerBinary,
    fc.constantFrom(Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY),
    fc.nat(),
  )
  .map(([all, value, at]) => {
    const tail = Buffer.from(all.tail!);
    tail.writeFloatLE(value, (at % (tail.length / 4)) * 4);
    return sent(`hidden state ${value}`, { ...all, tail });
  });

const jsonWords = fc
  .tuple(
    inJson,
    fc.constantFrom('1e400', 'NaN', 'Infinity', '-Infinity', 'undefined', '0x1', '01', '1.', '+1', "'1'"),
  )
  .map(([all, word]) => {
    const text = JSON.stringify(all.json).replace(/"data":\[+/, (start) => `${start}${word},`);
    return { ...sent(`the word ${word}`, all), body: Buffer.from(text) };
  });

/** A proper beginning of a JSON object is none. */
const cutJson = fc.tuple(inJson, fc.nat()).map(([all, at]) => {
  const whole = sent('cut off', all);
  return { ...whole, body: whole.body.subarray(0, at % whole.body.length) };
});

const cutTail = fc.tuple(inBinary, fc.nat()).map(([all, n]) => {
  const whole = sent('bytes cut off', all);
  return { ...whole, body: whole.body.subarray(0, whole.body.length - 1 - (n % all.tail!.length)) };
});

const longTail = fc.tuple(inBinary, fc.uint8Array({ minLength: 1, maxLength: 40 })).map(([all, more]) => {
  return sent('bytes too many', { ...all, tail: Buffer.concat([all.tail!, more]) });
});

const behindJson = fc.tuple(inJson, fc.constantFrom('x', '{}', '0', ']', '\0', ',')).map(([all, more]) => {
  const whole = sent('more behind the JSON', all);
  return { ...whole, body: Buffer.concat([whole.body, Buffer.from(more)]) };
});

/** Bytes that UTF-8 never has, or never has there, anywhere in the JSON. */
const BAD_UTF8 = ['ff', 'fe', 'c080', 'c0af', 'eda080', 'f5808080', 'f4908080', '80', 'e280', 'f09f98'];
const badUtf8 = fc.tuple(inJson, fc.constantFrom(...BAD_UTF8), fc.nat()).map(([all, hex, n]) => {
  const whole = sent(`bytes ${hex}`, all);
  const at = n % whole.body.length;
  const body = Buffer.concat([whole.body.subarray(0, at), Buffer.from(hex, 'hex'), whole.body.subarray(at)]);
  return { ...whole, body };
});

/** JSON has control characters neither within strings nor outside. */
const controls = fc.tuple(inJson, fc.integer({ min: 0, max: 8 }), fc.nat()).map(([all, control, n]) => {
  const whole = sent(`control character ${control}`, all);
  const body = Buffer.from(whole.body);
  body[n % body.length] = control;
  return { ...whole, body };
});

const deep = fc
  .tuple(fc.constantFrom('[', '{"a":', '[{"a":'), fc.constantFrom('data', 'shape', 'name'))
  .map(([open, key]) => {
    const nested = open.repeat(100_000);
    const text = `{"inputs":[{"name":"input_ids","shape":[1],"datatype":"INT64","data":[1],"${key}":${nested}`;
    const close = open === '[' ? ']' : open === '{"a":' ? '}' : '}]';
    return {
      what: `deep ${open}`,
      path: MODEL,
      headers: {},
      body: Buffer.from(`${text}1${close.repeat(100_000)}}]}`),
    };
  });

const HEADER_LENGTHS = [
  '-1',
  '+5',
  '1.5',
  '0x10',
  '',
  'x',
  '1e2',
  '99999999999999999999',
  '2147483648',
  '5, 5',
  'NaN',
];
const badHeader = fc
  .tuple(parts, fc.oneof(fc.constantFrom(...HEADER_LENGTHS), fc.integer({ min: 1, max: 400 }).map(String)))
  .map(([all, header]) => {
    const whole = sent(`header ${header}`, all);
    const same = header === (whole.headers['inference-header-content-length'] ?? String(whole.body.length));
    return { ...whole, headers: { 'inference-header-content-length': same ? '1' : header } };
  });

const noHeader = inBinary.map((all) => sent('without header', all, { headers: {} }));

const rawLength = fc
  .tuple(fc.integer({ min: 0, max: 100 }), fc.integer({ min: 1, max: 7 }))
  .map(([whole, part]) => ({
    what: 'raw, of no whole number of tokens',
    path: MODEL,
    headers: { 'inference-header-content-length': '0' },
    body: Buffer.alloc(whole * 8 + part),
  }));
const rawJson = fc.constant({
  what: 'raw, without a token',
  path: MODEL,
  headers: { 'inference-header-content-length': '0' },
  body: Buffer.alloc(0),
});

const TYPES = [
  'text/plain',
  'application/xml',
  'multipart/form-data; boundary=x',
  'application/x-www-form-urlencoded',
];
const BAD_TYPES = [
  ...TYPES,
  'application/jsonp',
  'json',
  'application/json; charset=utf-16',
  'application/json, text/html',
  '/',
];
const badType = fc.tuple(parts, fc.constantFrom(...BAD_TYPES)).map(([all, type]) => {
  const whole = sent(`type ${type}`, all);
  return { ...whole, headers: { ...whole.headers, 'content-type': type } };
});
const encoded = fc.tuple(parts, fc.constantFrom('gzip', 'deflate', 'br', 'x')).map(([all, encoding]) => {
  const whole = sent(`encoding ${encoding}`, all);
  return { ...whole, headers: { ...whole.headers, 'content-encoding': encoding } };
});

const PATHS = [
  'babel.layers.4',
  'babel.layers.00',
  'Babel',
  '__proto__',
  'constructor',
  '%00',
  'babel/versions/2',
  'babel/versions/0',
];
const badPath = fc
  .tuple(parts, fc.constantFrom(...PATHS))
  .map(([all, name]) => sent(`path ${name}`, all, { path: `/v2/models/${name}/infer` }));
const crossed = parts.map((all) =>
  sent('of the other model', all, { path: all.path === MODEL ? LAYER : MODEL }),
);

const anyJson = fc
  .json({ maxDepth: 4 })
  .map((text) => ({ what: 'any JSON', path: MODEL, headers: {}, body: Buffer.from(text) }));
const anyBytes = fc.uint8Array({ maxLength: 200 }).map((bytes) => ({
  what: 'any bytes',
  path: MODEL,
  headers: {},
  body: Buffer.from(bytes),
}));

/** No request of these can be valid. */
export const malformed: fc.Arbitrary<Sent> = fc.oneof(
  { weight: 40, arbitrary: fc.oneof(...objectChanges) },
  {
    weight: 40,
    arbitrary: fc.oneof(badValue, badToken, notFinite, jsonWords, cutJson, cutTail, longTail, behindJson),
  },
  {
    weight: 20,
    arbitrary: fc.oneof(badUtf8, controls, badHeader, noHeader, rawLength, rawJson, badType, encoded),
  },
  { weight: 10, arbitrary: fc.oneof(badPath, crossed, anyJson, anyBytes) },
  { weight: 1, arbitrary: deep },
);
