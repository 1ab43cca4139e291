import { type FastifyInstance, fastify } from 'fastify';
import { onTestFinished } from 'vitest';
import { addStall } from '#turnout/server/connections.js';
import { asTurnoutError, inferenceError, statusOf } from '#turnout/server/errors.js';
import { inferenceProtocol } from '#turnout/server/inference-protocol/endpoints.js';
import type { ProtocolLimits } from '#turnout/server/inference-protocol/limits.js';
import type { InferCall, ServedModel, Tensor } from '#turnout/server/inference-protocol/served-model.js';

/** ids INT64 [B, T] or [T] -> all that a datatype can be, of the same shape. What it was asked is kept. */
export class Ids implements ServedModel {
  readonly name = 'ids';
  readonly platform = 'test';
  readonly inputs = [{ name: 'ids', datatype: 'INT64', shape: [-1, -1], single: [-1] }] as const;
  readonly outputs = [
    { name: 'same', datatype: 'INT64', shape: [-1, -1] },
    { name: 'half', datatype: 'FP32', shape: [-1, -1] },
    { name: 'low', datatype: 'INT32', shape: [-1, -1] },
    { name: 'byte', datatype: 'UINT8', shape: [-1, -1] },
  ] as const;
  readonly calls: InferCall[] = [];
  isReady = true;

  ready(): boolean {
    return this.isReady;
  }

  async infer(inputs: ReadonlyMap<string, Tensor>, call: InferCall): Promise<ReadonlyMap<string, Tensor>> {
    this.calls.push(call);
    const { shape, data } = inputs.get('ids') as Tensor & { datatype: 'INT64' };
    return new Map<string, Tensor>([
      ['same', { datatype: 'INT64', shape, data }],
      ['half', { datatype: 'FP32', shape, data: Float32Array.from(data, (id) => Number(id) / 2) }],
      ['low', { datatype: 'INT32', shape, data: Int32Array.from(data, Number) }],
      ['byte', { datatype: 'UINT8', shape, data: Uint8Array.from(data, Number) }],
    ]);
  }
}

/** x FP32 [T, 4] and scale FP32 [T] -> y = x * scale. */
export const scaled: ServedModel = {
  name: 'scaled',
  platform: 'test',
  inputs: [
    { name: 'x', datatype: 'FP32', shape: [-1, 4] },
    { name: 'scale', datatype: 'FP32', shape: [-1] },
  ],
  outputs: [{ name: 'y', datatype: 'FP32', shape: [-1, 4] }],
  ready: () => true,
  infer: async (inputs) => {
    const { shape, data } = inputs.get('x')!;
    const scale = inputs.get('scale')!.data;
    const y = Float32Array.from(data as Float32Array, (value, i) => value * Number(scale[Math.floor(i / 4)]));
    return new Map<string, Tensor>([['y', { datatype: 'FP32', shape, data: y }]]);
  },
};

/** The endpoints under `/v2`, closed when the test is over. */
export async function serveModels(...models: ServedModel[]): Promise<FastifyInstance> {
  return serveWithin({}, ...models);
}

export async function serveWithin(
  { stallMs, ...limits }: Partial<ProtocolLimits> & { readonly stallMs?: number },
  ...models: ServedModel[]
): Promise<FastifyInstance> {
  const app = fastify();
  app.setErrorHandler((thrown, _request, reply) => {
    const error = asTurnoutError(thrown);
    return reply.code(statusOf(error)).send(inferenceError(error));
  });
  // Needs real connections: requests that are injected have none.
  if (stallMs !== undefined) addStall(app, stallMs);
  await app.register(inferenceProtocol, { prefix: '/v2', version: '1.2.3', models, limits });
  onTestFinished(() => app.close());
  return app;
}
