import { type FastifyInstance, fastify } from 'fastify';
import { EngineThread } from '#turnout/model/engine-thread.js';
import { Admission } from '#turnout/server/admission.js';
import { asTurnoutError, inferenceError, statusOf } from '#turnout/server/errors.js';
import { inferenceProtocol } from '#turnout/server/inference-protocol/endpoints.js';
import { servedModels } from '#turnout/server/inference-protocol/models.js';
import { checkServerOptions } from '#turnout/server/options.js';
import { BABEL } from './babel.js';

export async function startBabel(): Promise<{ address: string; port: number; close(): Promise<void> }> {
  const engine = await EngineThread.open(BABEL, { backend: 'inline' });
  const options = checkServerOptions({});
  const admission = new Admission({ running: 64, queue: 128, queueDelayMs: 10000, blocks: 4096 });
  const context = {
    engine,
    admission,
    options,
    metrics: { refused: () => {} },
    version: '0',
    startedAt: 0,
    ready: () => true,
  };
  const app: FastifyInstance = fastify();
  app.setErrorHandler((thrown, _request, reply) => {
    const error = asTurnoutError(thrown);
    return reply.code(statusOf(error)).send(inferenceError(error));
  });
  
  await app.register(inferenceProtocol, {
    prefix: '/v2',
    version: '0',
    models: servedModels(context as any),
  });
  const address = await app.listen({ port: 0, host: '127.0.0.1' });
  return {
    address,
    port: Number(new URL(address).port),
    close: async () => {
      await app.close();
      await engine.close();
    },
  };
}
