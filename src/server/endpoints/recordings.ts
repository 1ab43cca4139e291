import { Readable } from 'node:stream';
import type {} from '@fastify/swagger';
import type { FastifyInstance } from 'fastify';
import Type from 'typebox';
import { jsonAnswer } from '../answer-schemas.js';
import type { ServerContext } from '../context.js';

const Status = Type.Object({
  id: Type.String(),
  state: Type.Union(['recording', 'stopped', 'full'].map((state) => Type.Literal(state))),
  startedAt: Type.Integer({ description: 'Milliseconds since 1970.' }),
  requests: Type.Integer(),
  tokens: Type.Integer(),
  bytes: Type.Integer(),
});

interface ById {
  Params: { id: string };
}

/** Per-token recordings of the caller's own requests: start, stop, download, delete. */
export async function recordingEndpoints(
  app: FastifyInstance,
  { context }: { context: ServerContext },
): Promise<void> {
  const { recordings } = context;
  const tags = ['Routing'];
  const params = Type.Object({ id: Type.String() });
  const path = '/v1/routing/recordings';

  app.post(
    path,
    {
      schema: {
        summary: 'Starts to record the routing of requests with this key',
        tags,
        response: jsonAnswer('It runs', Status, 201),
      },
    },
    async (request, reply) => reply.code(201).send(recordings.start(request.keyNumber)),
  );
  app.get(
    path,
    {
      schema: {
        summary: 'The recordings of this key',
        tags,
        response: jsonAnswer('The recordings', Type.Object({ recordings: Type.Array(Status) })),
      },
    },
    async ({ keyNumber }) => ({
      recordings: recordings.list(keyNumber),
    }),
  );
  const stop = {
    summary: 'Ends a recording; it is kept until it is deleted',
    tags,
    params,
    response: jsonAnswer('It has ended', Status),
  };
  app.post<ById>(`${path}/:id/stop`, { schema: stop }, async ({ keyNumber, params: { id } }) =>
    recordings.stop(keyNumber, id),
  );
  const get = { summary: 'A recording, for replay', tags, params, response: jsonAnswer('The recording') };
  app.get<ById>(`${path}/:id`, { schema: get }, async ({ keyNumber, params: { id } }, reply) => {
    const parts = Readable.from(recordings.read(keyNumber, id));
    return reply
      .header('content-disposition', `attachment; filename="routing-${id}.json"`)
      .type('application/json; charset=utf-8')
      .send(parts);
  });
  app.delete<ById>(
    `${path}/:id`,
    {
      schema: {
        summary: 'Deletes a recording',
        tags,
        params,
        response: { 204: { description: 'It is gone' } },
      },
    },
    async (request, reply) => {
      recordings.remove(request.keyNumber, request.params.id);
      return reply.code(204).send();
    },
  );
}
