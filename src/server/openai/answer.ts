import type { FastifyReply } from 'fastify';
import type { ServerContext } from '../context.js';
import { asTurnoutError, openaiError } from '../errors.js';
import { EventStream } from '../event-stream.js';
import { type JobOwner, runJob } from './generations.js';
import type { Job } from './job.js';
import type { Shape } from './shape.js';
import { usageOf } from './tokens.js';

/** Runs a job and gives its answers at once. */
export async function answerWhole(
  context: ServerContext,
  job: Job,
  { shape, owner }: { shape: Shape; owner: JobOwner },
): Promise<object> {
  const head = headOf(context, shape, shape.object);
  const results = await runJob(context, job, owner);
  const choices = results.map((result, index) => shape.choice(index, result));
  return { ...head, choices, usage: usageOf(results, job.n) };
}

/** Runs a job and sends its answers as they come. Errors before the first event are thrown, later ones become an event. */
export async function answerStream(
  context: ServerContext,
  job: Job,
  { shape, owner, reply }: { shape: Shape; owner: JobOwner; reply: FastifyReply },
): Promise<void> {
  const head = headOf(context, shape, shape.chunkObject);
  const tail = job.streamUsage ? { usage: null } : {};
  let stream: EventStream | undefined;
  const send = (choice: object | undefined) => {
    if (choice) stream!.send(JSON.stringify({ ...head, choices: [choice], ...tail }));
  };
  try {
    const results = await runJob(context, job, owner, {
      onStart: () => {
        stream = new EventStream(reply, context.options.stallMs);
        for (let i = 0; i < job.prompts.length * job.n; i++) send(shape.first(i));
      },
      onPiece: (index, piece) => send(shape.piece(index, piece)),
      onEnd: (index, result) => send(shape.last(index, result)),
    });
    if (job.streamUsage)
      stream!.send(JSON.stringify({ ...head, choices: [], usage: usageOf(results, job.n) }));
    stream!.send('[DONE]');
  } catch (error) {
    if (!stream) throw error;
    stream.send(JSON.stringify(openaiError(asTurnoutError(error))));
  }
  stream?.end();
}

function headOf({ engine }: ServerContext, { prefix }: Shape, object: string) {
  const created = Math.floor(Date.now() / 1000);
  return { id: `${prefix}-${crypto.randomUUID()}`, object, created, model: engine.info.manifest.name };
}
