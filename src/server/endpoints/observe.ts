import type { FastifyInstance } from 'fastify';
import { TurnoutError } from '../../errors.js';
import { jsonAnswer, textAnswer } from '../answer-schemas.js';
import type { ServerContext } from '../context.js';
import { EventStream } from '../event-stream.js';
import { routingBody, statusBody } from '../observed.js';
import { type TraceBody, TraceRequest, traceText } from '../routing-trace.js';
import { clientGone } from '../signals.js';

/** Milliseconds from one event to the next. */
const EVENT_MS = 1000;
/** Streams of events at once. */
const MAX_STREAMS = 64;

/** What engine, layers and lanes do: counts alone, of all requests together, and the routing of a text for its owner. */
export async function observeEndpoints(
  app: FastifyInstance,
  { context }: { context: ServerContext },
): Promise<void> {
  const { observer, metrics } = context;
  const feed = new Feed(context);
  app.addHook('preClose', async () => feed.close());
  const tags = ['Routing'];

  app.get(
    '/v1/status',
    { schema: { summary: 'Engine, queue and lanes', tags, response: jsonAnswer('The status') } },
    async () => statusBody(context, await observer.snapshot()),
  );
  app.get(
    '/v1/routing',
    {
      schema: {
        summary: 'Loads, drops, losses and imbalance of each layer',
        tags,
        response: jsonAnswer('The layers'),
      },
    },
    async () => routingBody(context, await observer.snapshot()),
  );
  const events = {
    summary: 'The same and the status, each second',
    tags,
    response: textAnswer('Server-sent events', 'text/event-stream'),
  };
  // HEAD would never end.
  app.get('/v1/routing/events', { schema: events, exposeHeadRoute: false }, async (_, reply) => {
    feed.checkRoom();
    feed.add(new EventStream(reply, context.options.stallMs));
    return reply;
  });
  const trace = {
    summary: 'The routing of one text, optionally under another rule',
    tags,
    body: TraceRequest,
    response: jsonAnswer('The routing, token by token'),
  };
  app.post<{ Body: TraceBody }>('/v1/routing/trace', { schema: trace }, async (request, reply) =>
    traceText(context, request.body, clientGone(request, reply)),
  );
  app.get(
    '/metrics',
    {
      schema: {
        summary: 'Numbers for Prometheus',
        tags: ['Metrics'],
        response: textAnswer('Prometheus text', 'text/plain'),
      },
    },
    async (_, reply) => reply.type(metrics.contentType).send(await metrics.text()),
  );
}

/** Asks once a second for all streams together, while there are any. */
class Feed {
  readonly #context: ServerContext;
  readonly #streams = new Set<EventStream>();
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(context: ServerContext) {
    this.#context = context;
  }

  /** Throws TURNOUT_OVERLOADED, or TURNOUT_CLOSED. */
  checkRoom(): void {
    if (this.#closed) throw new TurnoutError('TURNOUT_CLOSED', 'the server is shutting down');
    if (this.#streams.size < MAX_STREAMS) return;
    throw new TurnoutError('TURNOUT_OVERLOADED', `${MAX_STREAMS} clients follow the events already`);
  }

  add(stream: EventStream): void {
    this.#streams.add(stream);
    this.#timer ??= setInterval(() => this.#tick(), EVENT_MS);
    void this.#send([stream]);
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#timer);
    for (const stream of this.#streams) stream.end();
    this.#streams.clear();
  }

  #tick(): void {
    for (const stream of this.#streams) if (stream.closed) this.#streams.delete(stream);
    if (this.#streams.size === 0) {
      clearInterval(this.#timer);
      this.#timer = undefined;
      return;
    }
    void this.#send([...this.#streams]);
  }

  async #send(streams: readonly EventStream[]): Promise<void> {
    // An engine that does not answer in time has no event this second.
    const snapshot = await this.#context.observer.snapshot().catch(() => undefined);
    if (!snapshot) return;
    const routing = JSON.stringify(routingBody(this.#context, snapshot));
    const status = JSON.stringify(statusBody(this.#context, snapshot));
    for (const stream of streams) {
      stream.send(routing, 'routing');
      stream.send(status, 'status');
    }
  }
}
