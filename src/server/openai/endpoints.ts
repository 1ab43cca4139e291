import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import Type from 'typebox';
import { TurnoutError } from '../../errors.js';
import { chatTemplate } from '../../model/chat-template.js';
import type { ServerContext } from '../context.js';
import { clientGone } from '../signals.js';
import { startGeneration } from '../tracing.js';
import { answerStream, answerWhole } from './answer.js';
import { ANSWERS } from './answers.js';
import { ChatShape, chatJob } from './chat.js';
import { CompletionShape, completionJob } from './completions.js';
import type { Job } from './job.js';
import { type ChatBody, ChatRequest, type CompletionBody, CompletionRequest } from './schemas.js';
import type { Shape } from './shape.js';

/** Models, completions and chat completions as OpenAI has them (https://platform.openai.com/docs/api-reference). */
export async function openaiEndpoints(
  app: FastifyInstance,
  { context }: { context: ServerContext },
): Promise<void> {
  const { manifest } = context.engine.info;
  const created = Math.floor(context.startedAt / 1000);
  const model = { id: manifest.name, object: 'model', created, owned_by: 'turnout' };

  app.get(
    '/v1/models',
    { schema: { summary: 'The package', tags: ['OpenAI'], response: ANSWERS.models } },
    async () => ({
      object: 'list',
      data: [model],
    }),
  );

  const named = {
    summary: 'One model',
    tags: ['OpenAI'],
    params: Type.Object({ id: Type.String() }),
    response: ANSWERS.model,
  };
  app.get<{ Params: { id: string } }>('/v1/models/:id', { schema: named }, async ({ params }) => {
    checkModel(params.id, manifest.name);
    return model;
  });

  const completion = {
    summary: 'Continues prompts',
    tags: ['OpenAI'],
    body: CompletionRequest,
    response: ANSWERS.completion,
  };
  app.post<{ Body: CompletionBody }>('/v1/completions', { schema: completion }, async (request, reply) => {
    checkModel(request.body.model, manifest.name);
    const job = completionJob(request.body);
    return answer(context, { job, shape: new CompletionShape(job), request, reply });
  });

  const render = chatTemplate(manifest) ?? (() => noTemplate(manifest.name));
  const chat = {
    summary: 'Answers messages, where the package has a chat template',
    tags: ['OpenAI'],
    body: ChatRequest,
    response: ANSWERS.chat,
  };
  app.post<{ Body: ChatBody }>('/v1/chat/completions', { schema: chat }, async (request, reply) => {
    checkModel(request.body.model, manifest.name);
    const job = chatJob(request.body, render);
    return answer(context, { job, shape: new ChatShape(job), request, reply });
  });
}

interface Asked {
  readonly job: Job;
  readonly shape: Shape;
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
}

async function answer(context: ServerContext, { job, shape, request, reply }: Asked): Promise<unknown> {
  const span = startGeneration({
    headers: request.headers,
    operation: shape instanceof ChatShape ? 'chat' : 'text_completion',
    model: context.engine.info.manifest.name,
  });
  const owner = { signal: clientGone(request, reply), keyNumber: request.keyNumber, span };
  if (!job.stream) return answerWhole(context, job, { shape, owner });
  await answerStream(context, job, { shape, owner, reply });
  return reply;
}

function noTemplate(name: string): never {
  const message = `the package ${name} has no chat template; use /v1/completions`;
  throw new TurnoutError('TURNOUT_UNSUPPORTED', message, { param: 'messages' });
}

function checkModel(asked: string | undefined, name: string): void {
  if (asked === undefined || asked === name) return;
  const message = `there is no model ${JSON.stringify(asked.slice(0, 200))}; this server has ${JSON.stringify(name)}`;
  throw new TurnoutError('TURNOUT_NOT_FOUND', message, { param: 'model' });
}
