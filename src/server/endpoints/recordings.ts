import { Readable } from 'node:stream';
import type {} from '@fastify/swagger';
import type { FastifyInstance } from 'fastify';
import Type from 'typebox';
import type { ServerContext } from '../context.js';
import { recordingJson } from '../recordings.js';

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
    { schema: { summary: 'Starts to record the routing of requests with this key', tags } },
    async (request, reply) => reply.code(201).send(recordings.start(request.keyNumber)),
  );
  app.get(path, { schema: { summary: 'The recordings of this key', tags } }, async ({ keyNumber }) => ({
    recordings: recordings.list(keyNumber),
  }));
  const stop = { summary: 'Ends a recording; it is kept until it is deleted', tags, params };
  app.post<ById>(`${path}/:id/stop`, { schema: stop }, async ({ keyNumber, params: { id } }) =>
    recordings.stop(keyNumber, id),
  );
  const get = { summary: 'A recording, for replay', tags, params };
  app.get<ById>(`${path}/:id`, { schema: get }, async ({ keyNumber, params: { id } }, reply) => {
    const recording = recordings.get(keyNumber, id);
    return reply
      .header('content-disposition', `attachment; filename="routing-${id}.json"`)
      .type('application/json; charset=utf-8')
      .send(Readable.from(recordingJson(recording)));
  });
  app.delete<ById>(
    `${path}/:id`,
    { schema: { summary: 'Deletes a recording', tags, params } },
    async (request, reply) => {
      recordings.remove(request.keyNumber, request.params.id);
      return reply.code(204).send();
    },
  );
}
