import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MoeModel } from '#turnout/model/moe-model.js';
import { type OpenLayer, openMoeLayer } from '#turnout/model/open.js';
import { type Server, serve } from '#turnout/server/serve.js';
import { matrix } from '#turnout/tensor.js';
import { BABEL, editManifest, temporaryFolder } from '../../support/babel.js';
import { makeRecurrentPackage } from '../../support/recurrent.js';

/* The inference protocol of real packages, by plain fetch. */

const [H, V] = [128, 257];
const LIMITS = { port: 0, running: 4, jsonLimit: 100_000, bodyLimit: 1_000_000 };

let server: Server;
beforeAll(async () => {
  server = await serve(BABEL, { backend: 'inline', server: LIMITS });
});
afterAll(() => server.close());

type Body = Record<string, unknown>;

async function post(model: string, body: Uint8Array<ArrayBuffer>, headers: Record<string, string> = {}) {
  return fetch(`${server.url}/v2/models/${model}/infer`, { method: 'POST', headers, body });
}

async function infer(model: string, body: Body, url = server.url): Promise<{ status: number; body: Body }> {
  const headers = { 'content-type': 'application/json' };
  const answer = await fetch(`${url}/v2/models/${model}/infer`, {
    method: 'POST',
    headers,
    body: JSON.stringify(body),
  });
  return { status: answer.status, body: (await answer.json()) as Body };
}

const raw = ({ buffer, byteOffset, byteLength }: ArrayBufferView<ArrayBuffer>) =>
  [new Uint8Array(buffer, byteOffset, byteLength), { 'inference-header-content-length': '0' }] as const;
const input = (name: string, datatype: string, shape: number[], data: unknown) => ({
  name,
  datatype,
  shape,
  data,
});
const ids = (shape: number[]) =>
  input('input_ids', 'INT64', shape, Array(shape.reduce((product, dim) => product * dim, 1)).fill(65));
const error = (code: string, message: RegExp) => ({
  error: expect.stringMatching(new RegExp(`^TURNOUT_${code}: .*${message.source}`)),
});

describe('the package as a model', () => {
  it('takes token ids as a raw body and gives the logits of the library in binary', async () => {
    await using model = await MoeModel.open(BABEL, { backend: 'inline' });
    const data = BigInt64Array.from([256, 104, 105], BigInt);
    const { logits } = await model.run({ input_ids: { type: 'int64', dims: [3], data } });
    const answer = await post('babel', ...raw(data));
    const bytes = Buffer.from(await answer.arrayBuffer());
    const length = Number(answer.headers.get('inference-header-content-length'));
    expect(JSON.parse(bytes.subarray(0, length).toString())).toEqual({
      model_name: 'babel',
      model_version: '1',
      outputs: [
        { name: 'logits', datatype: 'FP32', shape: [3, V], parameters: { binary_data_size: 3 * V * 4 } },
      ],
    });
    const expected = logits!.data as Float32Array;
    expect(
      bytes
        .subarray(length)
        .equals(new Uint8Array(expected.buffer, expected.byteOffset, expected.byteLength)),
    ).toBe(true);
  });

  it.each([
    ['nothing', [0], 400, 'INPUT_INVALID', /at least one token/],
    ['rows of nothing', [3, 0], 400, 'INPUT_INVALID', /at least one token/],
    ['more than the context', [1, 2049], 400, 'CONTEXT_EXCEEDED', /2049 tokens, the model's context is 2048/],
    ['more sequences than may run', [5, 2], 413, 'REQUEST_TOO_LARGE', /5 sequences, the server runs 4/],
  ] as const)('refuses %s', async (_, shape, status, code, message) => {
    const answer = await infer('babel', { inputs: [ids([...shape])] });
    expect(answer).toEqual({ status, body: error(code, message) });
  });

  it('refuses more logits than an answer may hold, before it computes any', async () => {
    const most = Math.floor((64 * 1024 * 1024) / 4 / V);
    const answer = await post('babel', ...raw(new BigInt64Array(most + 1)));
    expect([answer.status, await answer.json()]).toEqual([
      413,
      error('REQUEST_TOO_LARGE', /input_ids: expected at most 65280 tokens/),
    ]);
  });

  it('holds bodies to the limits of the server', async () => {
    const long = await infer('babel', { inputs: [ids([50_000])] });
    expect(long).toEqual({ status: 413, body: error('REQUEST_TOO_LARGE', /at most 100000 bytes of JSON/) });
    const longer = await post('babel', ...raw(new BigInt64Array(200_000)));
    expect([longer.status, await longer.json()]).toEqual([413, error('REQUEST_TOO_LARGE', /./)]);
  });

  it('keeps the timeout of the request', async () => {
    const answer = await infer('babel', { inputs: [ids([4, 2000])], parameters: { timeout: 2000 } });
    expect(answer).toEqual({ status: 504, body: error('DEADLINE_EXCEEDED', /./) });
  });
});

describe('a layer as a model', () => {
  let layer: OpenLayer;
  beforeAll(async () => {
    layer = await openMoeLayer({ package: BABEL, layer: 2 }, { backend: 'inline' });
  });
  afterAll(() => layer.close());

  const states = (seed: number, rows: number) =>
    Float32Array.from({ length: rows * H }, (_, i) => Math.sin(seed * 31 + i * i));

  it('ends a request with NaN alone: those that share its call get what they would get without it', async () => {
    const requests = Array.from({ length: 24 }, (_, seed) => states(seed, 1 + (seed % 5)));
    const answers = await Promise.all(
      requests.flatMap((data, i) => {
        const bad = data.slice();
        bad[i % data.length] = Number.NaN;
        return [data, bad].map(async (sent) => {
          const answer = await post('babel.layers.2', ...raw(sent));
          return {
            status: answer.status,
            type: answer.headers.get('inference-header-content-length'),
            body: Buffer.from(await answer.arrayBuffer()),
          };
        });
      }),
    );
    for (const [i, data] of requests.entries()) {
      const [good, bad] = [answers[2 * i]!, answers[2 * i + 1]!];
      const { y } = await layer.forward(matrix(data, data.length / H, H));
      const at = Number(good.type);
      expect(
        good.body
          .subarray(at, at + y.data.byteLength)
          .equals(new Uint8Array(y.data.buffer, y.data.byteOffset, y.data.byteLength)),
      ).toBe(true);
      expect([bad.status, JSON.parse(bad.body.toString())]).toEqual([
        400,
        error('INPUT_INVALID', /got NaN in row/),
      ]);
    }
  });

  it('refuses no rows, and more than a call may have', async () => {
    const none = await infer('babel.layers.2', { inputs: [input('hidden_states', 'FP32', [0, H], [])] });
    expect(none).toEqual({
      status: 400,
      body: error('INPUT_INVALID', /hidden_states: expected at least one row/),
    });
    await using large = await serve(BABEL, { backend: 'inline', server: { port: 0 } });
    const [body, headers] = raw(new Float32Array(4097 * H));
    const many = await fetch(`${large.url}/v2/models/babel.layers.0/infer`, {
      method: 'POST',
      headers,
      body,
    });
    expect([many.status, await many.json()]).toEqual([
      413,
      error('REQUEST_TOO_LARGE', /at most 4096 rows, got 4097/),
    ]);
  });

  it('takes the logits of the router where it has no gate of its own', async () => {
    const [own, without] = [temporaryFolder(), temporaryFolder()];
    await makeRecurrentPackage(own);
    await makeRecurrentPackage(without);
    editManifest(without, ({ layers, program }) => {
      layers[0].gate = { logits: 'z' };
      const gate = {
        kind: 'graph',
        domain: 'rows',
        model: 'layer/gate.onnx',
        inputs: { x: 'x' },
        outputs: { logits: 'z' },
      };
      program.steps.splice(2, 0, gate);
    });
    await using gated = await serve(own, { backend: 'inline', server: { port: 0 } });
    await using bare = await serve(without, { backend: 'inline', server: { port: 0 } });
    const hidden = input(
      'hidden_states',
      'FP32',
      [3, 8],
      Array.from({ length: 24 }, (_, i) => Math.cos(i)),
    );
    const expected = await infer('recurrent.layers.0', { inputs: [hidden] }, gated.url);
    const outputs = expected.body.outputs as { name: string; shape: number[]; data: number[] }[];
    const { shape, data } = outputs.find(({ name }) => name === 'router_logits')!;
    const inputs = [input('router_logits', 'FP32', shape, data), hidden];
    expect(await infer('recurrent.layers.0', { inputs }, bare.url)).toEqual(expected);
    const missing = await infer('recurrent.layers.0', { inputs: [hidden] }, bare.url);
    expect(missing).toEqual({
      status: 400,
      body: error('INPUT_INVALID', /the input router_logits is missing/),
    });
    const fewer = [input('router_logits', 'FP32', [1, 4], [1, 2, 3, 4]), hidden];
    const uneven = await infer('recurrent.layers.0', { inputs: fewer }, bare.url);
    expect(uneven).toEqual({ status: 400, body: error('SHAPE_MISMATCH', /3 rows/) });
  });
});

describe('addresses', () => {
  it.each([
    ['/v2/elsewhere', 404, 'NOT_FOUND', /no endpoint GET \/v2\/elsewhere/],
    ['/v2/models/babel/infer', 404, 'NOT_FOUND', /no endpoint GET/],
    ['/v2/models/%ff', 400, 'REQUEST_INVALID', /not a valid url/],
  ] as const)('GET %s is refused in the shape of the protocol', async (path, status, code, message) => {
    const answer = await fetch(server.url + path);
    expect([answer.status, await answer.json()]).toEqual([status, error(code, message)]);
  });
});

describe('a server with keys', () => {
  it('tells everybody that it is healthy, and the rest to those with a key', async () => {
    const key = 'a-key-of-16-characters';
    await using closed = await serve(BABEL, { backend: 'inline', server: { port: 0, apiKeys: [key] } });
    const get = async (path: string, headers = {}) =>
      (await fetch(`${closed.url}/v2${path}`, { headers })).status;
    expect(await Promise.all(['/health/live', '/health/ready'].map((path) => get(path)))).toEqual([200, 200]);
    expect(await Promise.all(['', '/models/babel', '/models/babel/ready'].map((path) => get(path)))).toEqual([
      401, 401, 401,
    ]);
    expect(await get('/models/babel', { authorization: `Bearer ${key}` })).toBe(200);
    const refused = await infer('babel', { inputs: [ids([1])] }, closed.url);
    expect(refused).toEqual({ status: 401, body: error('UNAUTHORIZED', /Bearer/) });
  });
});
