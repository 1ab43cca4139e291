import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { TurnoutError } from '../../errors.js';
import { shown } from '../../schema.js';
import { clientGone } from '../signals.js';
import { DEFAULT_LIMITS, type ProtocolLimits } from './limits.js';
import { readRequest } from './request.js';
import { writeResponse } from './response.js';
import * as schemas from './schemas.js';
import { MODEL_VERSION, type ServedModel, type TensorSpec } from './served-model.js';

export interface InferenceProtocolOptions {
  /** The version of the server. */
  readonly version: string;
  readonly models: readonly ServedModel[];
  readonly limits?: Partial<ProtocolLimits>;
}

const EXTENSIONS = ['binary_tensor_data', 'schedule_policy'];

/** What bodies may be; Triton's client names no type at all. */
const MEDIA_TYPE = /^application\/(json|octet-stream)\s*(;\s*charset="?utf-8"?\s*)?$/i;

/** Probes have no key. */
const OPEN = { open: true } as const;

type Address = { readonly name: string; readonly version?: string };

/** The Open Inference Protocol (KServe V2), as a plugin to register below `/v2`; the app gives errors their shape. */
export async function inferenceProtocol(
  app: FastifyInstance,
  options: InferenceProtocolOptions,
): Promise<void> {
  const limits = { ...DEFAULT_LIMITS, ...options.limits };
  const models = new Map(options.models.map((model) => [model.name, model]));
  receiveBytes(app, limits);
  serverEndpoints(app, options);
  for (const version of ['', '/versions/:version']) modelEndpoints(app, `/models/:name${version}`, models);
  for (const version of ['', '/versions/:version']) {
    const schema = inferSchema(version !== '');
    app.post(`/models/:name${version}/infer`, { schema }, (request, reply) =>
      infer(find(models, request), { request, reply, limits }),
    );
  }
}

/** Bodies are read as bytes, whatever their type: what they hold is checked where they are used. */
function receiveBytes(app: FastifyInstance, { bodyBytes }: ProtocolLimits): void {
  app.removeAllContentTypeParsers();
  const parser = { parseAs: 'buffer', bodyLimit: bodyBytes } as const;
  app.addContentTypeParser('*', parser, (_request, body, done) => done(null, body));
  app.setValidatorCompiler(() => () => true);
}

function serverEndpoints(app: FastifyInstance, { version, models }: InferenceProtocolOptions): void {
  const tags = ['Open Inference Protocol'];
  const metadata = { tags, summary: 'Server metadata', response: { 200: schemas.ServerMetadataSchema } };
  app.get('', { schema: metadata }, () => ({ name: 'turnout', version, extensions: EXTENSIONS }));
  const live = { tags, summary: 'Whether the server lives', response: { 200: schemas.LiveSchema } };
  app.get('/health/live', { schema: live, config: OPEN }, () => ({ live: true }));
  const answers = { 200: schemas.ReadySchema, 503: schemas.ReadySchema };
  const ready = { tags, summary: 'Whether all models are ready', response: answers };
  app.get('/health/ready', { schema: ready, config: OPEN }, (_request, reply) =>
    answerReady(
      reply,
      models.every((model) => model.ready()),
    ),
  );
}

function modelEndpoints(app: FastifyInstance, path: string, models: ReadonlyMap<string, ServedModel>): void {
  const params = path.includes(':version') ? schemas.VersionParams : schemas.ModelParams;
  const common = { tags: ['Open Inference Protocol'], params };
  const answers = { 200: schemas.ModelMetadataSchema, 404: schemas.ErrorSchema };
  const metadata = { ...common, summary: 'Model metadata', response: answers };
  app.get(path, { schema: metadata }, (request) => metadataOf(find(models, request)));
  const readiness = {
    200: schemas.ModelReadySchema,
    503: schemas.ModelReadySchema,
    404: schemas.ErrorSchema,
  };
  const ready = { ...common, summary: 'Whether a model is ready', response: readiness };
  app.get(`${path}/ready`, { schema: ready }, (request, reply) => {
    const model = find(models, request);
    return answerReady(reply, model.ready(), { name: model.name });
  });
}

function inferSchema(versioned: boolean): object {
  const binary = { schema: { type: 'string', format: 'binary' } };
  const body = {
    'application/json': { schema: schemas.InferRequestSchema },
    'application/octet-stream': binary,
  };
  const answer = {
    'application/json': { schema: schemas.InferResponseSchema },
    'application/octet-stream': binary,
  };
  return {
    tags: ['Open Inference Protocol'],
    summary: 'Inference',
    params: versioned ? schemas.VersionParams : schemas.ModelParams,
    headers: schemas.InferHeaders,
    body: { content: body },
    response: {
      200: { description: 'The outputs asked for.', content: answer },
      '4xx': schemas.ErrorSchema,
      '5xx': schemas.ErrorSchema,
    },
  };
}

interface Exchange {
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
  readonly limits: ProtocolLimits;
}

async function infer(model: ServedModel, { request, reply, limits }: Exchange): Promise<FastifyReply> {
  checkMediaType(request);
  const headerLength = request.headers['inference-header-content-length'];
  const received = {
    bytes: (request.body as Buffer | undefined) ?? Buffer.alloc(0),
    ...(headerLength === undefined ? {} : { headerLength: String(headerLength) }),
  };
  const { inputs, ...asked } = readRequest(received, model, limits);
  const outputs = await model.infer(inputs, {
    outputs: asked.outputs.map(({ name }) => name),
    ...(asked.timeoutMs === undefined ? {} : { timeoutMs: asked.timeoutMs }),
    priority: asked.priority,
    signal: clientGone(request, reply),
  });
  const { headers, body } = await writeResponse(model.name, asked, outputs);
  return reply.headers(headers).send(body);
}

function checkMediaType({ headers }: FastifyRequest): void {
  const { 'content-type': type, 'content-encoding': encoding = 'identity' } = headers;
  if (type !== undefined && !MEDIA_TYPE.test(type)) {
    const message = `Content-Type: expected application/json or application/octet-stream, got ${shown(type)}`;
    throw new TurnoutError('TURNOUT_MEDIA_TYPE_UNSUPPORTED', message);
  }
  if (encoding !== 'identity') {
    const message = `Content-Encoding: expected none, got ${shown(encoding)}`;
    throw new TurnoutError('TURNOUT_MEDIA_TYPE_UNSUPPORTED', message);
  }
}

function find(models: ReadonlyMap<string, ServedModel>, request: FastifyRequest): ServedModel {
  const { name, version = MODEL_VERSION } = request.params as Address;
  const model = models.get(name);
  if (!model) {
    const message = `there is no model ${shown(name)}; there are ${[...models.keys()].join(', ')}`;
    throw new TurnoutError('TURNOUT_NOT_FOUND', message);
  }
  if (version !== MODEL_VERSION) {
    const message = `${name} has no version ${shown(version)}; it has ${MODEL_VERSION}`;
    throw new TurnoutError('TURNOUT_NOT_FOUND', message);
  }
  return model;
}

function metadataOf({ name, platform, inputs, outputs }: ServedModel): object {
  const described = (spec: TensorSpec) => ({ name: spec.name, datatype: spec.datatype, shape: spec.shape });
  return {
    name,
    versions: [MODEL_VERSION],
    platform,
    inputs: inputs.map(described),
    outputs: outputs.map(described),
  };
}

function answerReady(reply: FastifyReply, ready: boolean, of: object = {}): object {
  if (!ready) reply.status(503).header('retry-after', '1');
  return { ...of, ready };
}
