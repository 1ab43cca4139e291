import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MoeModel } from '#turnout/model/moe-model.js';
import { type OpenLayer, openMoeLayer } from '#turnout/model/open.js';
import { type Server, serve } from '#turnout/server/serve.js';
import { matrix } from '#turnout/tensor.js';
import { BABEL } from '../../support/babel.js';
import {
  callTriton,
  received,
  type SentTensor,
  type TritonInfer,
  tritonMissing,
} from '../../support/triton/triton.js';

/* Triton's own Python client against the real server and package; what it gets is compared with the library, bit by bit. */

if (tritonMissing) console.warn(tritonMissing);

const MINUTE = 60_000;
const [H, E, K, V] = [128, 8, 2, 257];
const IDS = BigInt64Array.from([256, 73, 110, 32, 116, 104, 101, 32], BigInt);
const ROWS = 24;
/** Rows that are alike want the same experts, which have no room for all of them. */
const STATES = Float32Array.from({ length: ROWS * H }, (_, i) =>
  Math.sin((i % H) ** 2 + Math.floor(i / H / 12)),
);

describe.skipIf(tritonMissing)("Triton's client", () => {
  let server: Server;
  let model: MoeModel;
  let layer: OpenLayer;

  beforeAll(async () => {
    server = await serve(BABEL, { backend: 'inline', server: { port: 0 } });
    model = await MoeModel.open(BABEL, { backend: 'inline' });
    layer = await openMoeLayer({ package: BABEL, layer: 0 }, { backend: 'inline' });
  }, MINUTE);
  afterAll(() => Promise.all([server.close(), model.close(), layer.close()]));

  const ids = (shape: readonly number[], binary: boolean): SentTensor => ({
    name: 'input_ids',
    datatype: 'INT64',
    shape,
    data: IDS,
    binary,
  });
  const states = (binary: boolean, data = STATES): SentTensor => ({
    name: 'hidden_states',
    datatype: 'FP32',
    shape: [data.length / H, H],
    data,
    binary,
  });
  const infer = (call: Omit<TritonInfer, 'method'>): TritonInfer => ({ method: 'infer', ...call });
  const call = (...calls: Parameters<typeof callTriton>[1][number][]) =>
    callTriton(new URL(server.url).host, calls);

  it('finds the server and its models ready, and described', { timeout: MINUTE }, async () => {
    const answers = await call(
      { method: 'is_server_live' },
      { method: 'is_server_ready' },
      { method: 'is_model_ready', arguments: ['babel'] },
      { method: 'is_model_ready', arguments: ['babel.layers.3', '1'] },
      { method: 'is_model_ready', arguments: ['babel', '2'] },
      { method: 'get_server_metadata' },
      { method: 'get_model_metadata', arguments: ['babel'] },
      { method: 'get_model_metadata', arguments: ['babel.layers.0', '1'] },
    );
    expect(answers.slice(0, 5)).toEqual([true, true, true, true, false]);
    expect(answers[5]).toMatchObject({
      name: 'turnout',
      extensions: expect.arrayContaining(['binary_tensor_data']),
    });
    expect(answers[6]).toMatchObject({
      name: 'babel',
      versions: ['1'],
      inputs: [{ name: 'input_ids', datatype: 'INT64', shape: [-1, -1] }],
      outputs: [{ name: 'logits', datatype: 'FP32', shape: [-1, -1, V] }],
    });
    expect(answers[7]).toMatchObject({
      inputs: [{ name: 'hidden_states', datatype: 'FP32', shape: [-1, H] }],
      outputs: [
        { name: 'output_states', datatype: 'FP32', shape: [-1, H] },
        { name: 'router_logits', datatype: 'FP32', shape: [-1, E] },
        { name: 'experts', datatype: 'INT32', shape: [-1, K] },
        { name: 'weights', datatype: 'FP32', shape: [-1, K] },
        { name: 'dropped', datatype: 'UINT8', shape: [-1, K] },
      ],
    });
  });

  it('gets the logits that the library gives, in JSON and binary', { timeout: MINUTE }, async () => {
    const logits = (binary: boolean) => [{ name: 'logits', binary }];
    const answers = await call(
      infer({ model: 'babel', inputs: [ids([8], true)] }),
      infer({
        model: 'babel',
        inputs: [ids([8], false)],
        outputs: logits(false),
        options: { request_id: 'a-1' },
      }),
      infer({ model: 'babel', inputs: [ids([2, 4], true)], outputs: logits(false), later: true }),
      infer({
        model: 'babel',
        inputs: [ids([2, 4], false)],
        outputs: logits(true),
        options: { model_version: '1', timeout: 10_000_000, priority: 1 },
      }),
    );
    const expected = async (dims: readonly number[]) => {
      const { logits: given } = await model.run({ input_ids: { type: 'int64', dims, data: IDS } });
      return { logits: received('FP32', [...dims, V], given!.data as Float32Array) };
    };
    const [one, two] = [await expected([8]), await expected([2, 4])];
    expect(answers.map((answer) => (answer as { tensors: object }).tensors)).toEqual([one, one, two, two]);
    expect(answers[1]).toMatchObject({ id: 'a-1', model_name: 'babel', model_version: '1' });
  });

  it('gets the output and the routing of a layer that the library gives', { timeout: MINUTE }, async () => {
    const all = ['output_states', 'router_logits', 'experts', 'weights', 'dropped'];
    const { y, routing } = await layer.forward(matrix(STATES, ROWS, H));
    const tensors = {
      output_states: received('FP32', [ROWS, H], y.data),
      router_logits: received('FP32', [ROWS, E], routing.logits.data),
      experts: received('INT32', [ROWS, K], routing.expert),
      weights: received('FP32', [ROWS, K], routing.weight),
      dropped: received('UINT8', [ROWS, K], routing.reason),
    };
    expect(routing.reason).toContain(1);
    const inJson = all.map((name) => ({ name, binary: false }));
    const mixed = [
      { name: 'dropped', binary: true },
      { name: 'experts', binary: false },
      { name: 'output_states', binary: true },
    ];
    const answers = await call(
      infer({ model: 'babel.layers.0', inputs: [states(true)] }),
      infer({ model: 'babel.layers.0', inputs: [states(false)], outputs: inJson }),
      infer({ model: 'babel.layers.0', inputs: [states(true)], outputs: mixed }),
    );
    expect(answers[0]).toMatchObject({ names: all, tensors });
    expect(answers[1]).toMatchObject({ names: all, tensors });
    const { dropped, experts, output_states } = tensors;
    expect(answers[2]).toMatchObject({ names: ['dropped', 'experts', 'output_states'] });
    expect((answers[2] as { tensors: object }).tensors).toEqual({ dropped, experts, output_states });
  });

  it('is told what is wrong', { timeout: MINUTE }, async () => {
    const bad = STATES.slice();
    bad[3 * H + 5] = Number.NaN;
    const text = new Uint8Array(8);
    const answers = await call(
      infer({ model: 'nobody', inputs: [ids([8], true)] }),
      infer({ model: 'babel', inputs: [{ ...ids([2], true), datatype: 'INT32', data: text }] }),
      infer({ model: 'babel', inputs: [ids([8], true)], options: { sequence_id: 3, sequence_start: true } }),
      infer({ model: 'babel', inputs: [ids([8], true)], options: { parameters: { temperature: 1 } } }),
      infer({ model: 'babel', inputs: [ids([8], true)], options: { request_compression_algorithm: 'gzip' } }),
      infer({ model: 'babel.layers.0', inputs: [states(true, bad)] }),
      infer({ model: 'babel', inputs: [ids([8], true)], outputs: [{ name: 'nothing', binary: true }] }),
    );
    const error = (status: string, message: RegExp) => ({ status, message: expect.stringMatching(message) });
    expect(answers).toEqual([
      error('404', /^TURNOUT_NOT_FOUND: there is no model "nobody"/),
      error('400', /^TURNOUT_INPUT_INVALID: input input_ids: expected the datatype INT64, got INT32/),
      error('400', /^TURNOUT_UNSUPPORTED: sequence_id/),
      error('400', /^TURNOUT_REQUEST_INVALID: .*\/parameters\/temperature: no such field/),
      error('415', /^TURNOUT_MEDIA_TYPE_UNSUPPORTED: Content-Encoding/),
      error('400', /^TURNOUT_INPUT_INVALID: .*NaN in row 3, column 5/),
      error('400', /^TURNOUT_INPUT_INVALID: babel has no output "nothing"; it gives logits/),
    ]);
  });
});
