import fc from 'fast-check';

/* Requests to `infer` of babel (input_ids INT64 [B, T] or [T], 257 tokens) and of its first layer (hidden_states FP32 [T, 128]). */

export interface Sent {
  /** What was done to it. */
  readonly what: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

export type Json = Record<string, unknown>;
export interface Parts {
  readonly path: string;
  readonly json: Json;
  /** What stands behind the JSON. */
  readonly tail?: Buffer;
}

export const HIDDEN = 128;
export const TOKENS = 257;
export const MODEL = '/v2/models/babel/infer';
export const LAYER = '/v2/models/babel.layers.0/infer';

const tokens = fc.array(fc.integer({ min: 0, max: TOKENS - 1 }), { minLength: 1, maxLength: 6 });
const ids64 = (ids: readonly number[]) => Buffer.from(BigInt64Array.from(ids, BigInt).buffer);
const states = (rows: number) => Float32Array.from({ length: rows * HIDDEN }, (_, i) => Math.sin(i));

export const idsJson: fc.Arbitrary<Parts> = tokens.map((data) => ({
  path: MODEL,
  json: { inputs: [{ name: 'input_ids', shape: [data.length], datatype: 'INT64', data }] },
}));
const idsNested: fc.Arbitrary<Parts> = tokens.map((data) => ({
  path: MODEL,
  json: {
    id: 'n',
    inputs: [{ name: 'input_ids', shape: [1, data.length], datatype: 'INT64', data: [data] }],
  },
}));
export const idsBinary: fc.Arbitrary<Parts> = tokens.map((data) => ({
  path: MODEL,
  json: {
    inputs: [
      {
        name: 'input_ids',
        shape: [data.length],
        datatype: 'INT64',
        parameters: { binary_data_size: data.length * 8 },
      },
    ],
  },
  tail: ids64(data),
}));
const layerJson: fc.Arbitrary<Parts> = fc.constant({
  path: LAYER,
  json: {
    inputs: [{ name: 'hidden_states', shape: [1, HIDDEN], datatype: 'FP32', data: Array.from(states(1)) }],
  },
});
export const layerBinary: fc.Arbitrary<Parts> = fc.integer({ min: 1, max: 3 }).map((rows) => ({
  path: LAYER,
  json: {
    inputs: [
      {
        name: 'hidden_states',
        shape: [rows, HIDDEN],
        datatype: 'FP32',
        parameters: { binary_data_size: rows * HIDDEN * 4 },
      },
    ],
    parameters: { binary_data_output: true },
  },
  tail: Buffer.from(states(rows).buffer),
}));

export const inJson = fc.oneof(idsJson, idsNested, layerJson);
export const inBinary = fc.oneof(idsBinary, layerBinary);
export const parts = fc.oneof(inJson, inBinary);

export function sent(what: string, { path, json, tail }: Parts, over: Partial<Sent> = {}): Sent {
  const head = Buffer.from(JSON.stringify(json));
  const headers: Record<string, string> = tail
    ? { 'inference-header-content-length': String(head.length) }
    : {};
  return { what, path, headers, body: tail ? Buffer.concat([head, tail]) : head, ...over };
}

export const valid: fc.Arbitrary<Sent> = parts.map((all) => sent('nothing', all));

/** One byte of a valid request in JSON is another: it may be valid still. */
export const flipped: fc.Arbitrary<Sent> = fc
  .tuple(fc.oneof(idsJson, idsNested), fc.nat(), fc.integer({ min: 1, max: 255 }))
  .map(([all, n, mask]) => {
    const whole = sent('a byte flipped', all);
    const body = Buffer.from(whole.body);
    body[n % body.length]! ^= mask;
    return { ...whole, body };
  });

/** Whether a request for logits in JSON is valid, told in another way than the server does. */
export function isValid({ body }: Sent): boolean {
  try {
    const text = body.toString();
    if (!Buffer.from(text).equals(body)) return false;
    const { inputs, id = '', ...rest } = JSON.parse(text);
    const [{ name, shape, datatype, data, ...more }, ...others] = inputs;
    if ([...Object.keys(rest), ...Object.keys(more), ...others].length > 0 || typeof id !== 'string')
      return false;
    const ids: unknown[] = shape.length === 2 && Array.isArray(data[0]) ? data[0] : data;
    const expected = shape.length === 2 ? [1, ids.length] : [ids.length];
    if (JSON.stringify([name, datatype, shape]) !== JSON.stringify(['input_ids', 'INT64', expected]))
      return false;
    return ids.every((value) => Number.isInteger(value) && Number(value) >= 0 && Number(value) < TOKENS);
  } catch {
    return false;
  }
}
