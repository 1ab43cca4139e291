import cors from '@fastify/cors';
import helmet from '@fastify/helmet';
import rateLimit from '@fastify/rate-limit';
import Fastify, {
  type FastifyError,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
} from 'fastify';
import { TurnoutError } from '../errors.js';
import { addAccess } from './access.js';
import { addBodyBudget } from './body-budget.js';
import { addStall, answerUnreadable } from './connections.js';
import type { ServerContext } from './context.js';
import { dashboard } from './dashboard.js';
import { addDocs } from './docs.js';
import { observeEndpoints } from './endpoints/observe.js';
import { recordingEndpoints } from './endpoints/recordings.js';
import { asTurnoutError, inferenceError, openaiError, statusOf } from './errors.js';
import { inferenceProtocol } from './inference-protocol/endpoints.js';
import { servedModels } from './inference-protocol/models.js';
import { addJsonParser, addValidator } from './json-body.js';
import { openaiEndpoints } from './openai/endpoints.js';
import type { CheckedOptions } from './options.js';

/** Bytes of all headers of a request together. */
const MAX_HEADER_BYTES = 16 * 1024;
/** How often in the time that a client has for its request the server looks for those that are late. */
const LOOKS = 12;
/** Characters of one part of a path: names of models and recordings. */
const MAX_PARAM = 256;

/** The HTTP side of a server: parses, admits and answers, and never computes. Nothing listens yet. */
export async function createApp(context: ServerContext): Promise<FastifyInstance> {
  const { options } = context;
  const { readMs, stallMs } = options;
  const app = Fastify({
    // What nobody foresaw is told in any case: its answer says nothing of the inside.
    logger: { stream: process.stderr, level: options.log ? 'info' : 'error' },
    bodyLimit: options.bodyLimit,
    routerOptions: { maxParamLength: MAX_PARAM },
    requestTimeout: readMs,
    http: {
      maxHeaderSize: MAX_HEADER_BYTES,
      headersTimeout: Math.ceil(readMs / 3),
      connectionsCheckingInterval: Math.ceil(readMs / LOOKS),
    },
    clientErrorHandler: answerUnreadable,
    // Those that have nothing under way; others end with their answer.
    forceCloseConnections: 'idle',
    return503OnClosing: false,
    genReqId: () => crypto.randomUUID(),
    // Addresses that cannot be decoded, which come before all handlers.
    frameworkErrors: (thrown, request, reply) => {
      const { retryAfter } = context.admission;
      return sendError(request, reply, { error: asTurnoutError(thrown), retryAfter });
    },
  });
  addValidator(app);
  app.setSerializerCompiler(() => (value) => JSON.stringify(value));
  addJsonParser(app, options.jsonLimit);
  addErrors(app, context);
  addStall(app, stallMs);
  await app.register(helmet, { contentSecurityPolicy: { directives: CONTENT_SECURITY } });
  // Before the keys are asked for: browsers send none with the question whether they may call.
  if (options.corsOrigins.length > 0) await app.register(cors, corsOf(options));
  addAccess(app, options);
  addBodyBudget(app, options);
  await addDocs(app, context);
  if (options.rateLimit !== Number.POSITIVE_INFINITY) await app.register(rateLimit, limitOf(options));
  for (const endpoints of [openaiEndpoints, observeEndpoints, recordingEndpoints]) {
    await app.register(endpoints, { context });
  }
  await app.register(dashboard);
  await app.register(inferenceProtocol, {
    prefix: '/v2',
    version: context.version,
    models: servedModels(context),
    limits: { bodyBytes: options.bodyLimit, jsonBytes: options.jsonLimit },
  });
  return app;
}

/** The dashboard loads nothing but its own files. */
const CONTENT_SECURITY = {
  defaultSrc: ["'self'"],
  scriptSrc: ["'self'"],
  styleSrc: ["'self'"],
  imgSrc: ["'self'", 'data:'],
  connectSrc: ["'self'"],
  objectSrc: ["'none'"],
  frameAncestors: ["'none'"],
  // The server speaks plain HTTP: a browser that turned to HTTPS would find nobody.
  upgradeInsecureRequests: null,
};

function corsOf({ corsOrigins }: CheckedOptions) {
  return {
    origin: [...corsOrigins],
    methods: ['GET', 'HEAD', 'POST', 'DELETE'],
    exposedHeaders: ['Retry-After', 'Inference-Header-Content-Length'],
    strictPreflight: false,
  };
}

function limitOf({ rateLimit: max }: CheckedOptions) {
  return {
    max,
    timeWindow: 60_000,
    keyGenerator: ({ keyNumber, ip }: FastifyRequest) =>
      keyNumber === undefined ? `ip:${ip}` : `key:${keyNumber}`,
    allowList: ({ routeOptions }: FastifyRequest) => routeOptions.config.open === true,
    errorResponseBuilder: (_: FastifyRequest, { max: limit }: { max: number }) =>
      new TurnoutError('TURNOUT_RATE_LIMITED', `more than ${limit} requests in a minute`, { limit }),
  };
}

function addErrors(app: FastifyInstance, { admission, metrics }: ServerContext): void {
  app.setNotFoundHandler(({ method, url }) => {
    const [path] = url.split('?');
    throw new TurnoutError(
      'TURNOUT_NOT_FOUND',
      `there is no endpoint ${method} ${path!.slice(0, MAX_PARAM)}`,
    );
  });
  app.setErrorHandler((thrown: FastifyError, request, reply) => {
    const error = asTurnoutError(thrown);
    if (error.code === 'TURNOUT_INTERNAL') request.log.error(thrown);
    return sendError(request, reply, { error, retryAfter: admission.retryAfter });
  });
  app.addHook('onResponse', async ({ method, routeOptions }, { statusCode, elapsedTime }) => {
    metrics.request({ endpoint: routeOptions.url, method, status: statusCode, seconds: elapsedTime / 1000 });
  });
}

function sendError(
  { url }: FastifyRequest,
  reply: FastifyReply,
  { error, retryAfter }: { error: TurnoutError; retryAfter: number },
): FastifyReply {
  const status = statusOf(error);
  if (status === 401) void reply.header('www-authenticate', 'Bearer realm="turnout"');
  if ((status === 429 || status === 503) && !reply.hasHeader('retry-after')) {
    void reply.header('retry-after', String(retryAfter));
  }
  const body = url.startsWith('/v2') ? inferenceError(error) : openaiError(error);
  return reply.code(status).send(body);
}
