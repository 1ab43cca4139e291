import type { ServerResponse } from 'node:http';
import type { FastifyReply } from 'fastify';

/** Bytes that may wait for a client that reads more slowly than they come: some thousand tokens with their alternatives. */
const MAX_WAITING = 8 * 1024 * 1024;

/** An answer as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html). */
export class EventStream {
  readonly #raw: ServerResponse;
  readonly #stallMs: number;
  #watched = false;

  /** Takes the reply over and sends its headers. A client that takes nothing for `stallMs` is cut off. */
  constructor(reply: FastifyReply, stallMs: number) {
    reply.hijack();
    this.#stallMs = stallMs;
    this.#raw = reply.raw;
    this.#raw.writeHead(200, {
      ...(reply.getHeaders() as Record<string, string>),
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-store',
      // Proxies such as nginx would hold events back.
      'x-accel-buffering': 'no',
    });
    this.#raw.flushHeaders();
    // Another answer of this connection may have left its own.
    this.#raw.setTimeout(0);
  }

  get closed(): boolean {
    return this.#raw.destroyed || this.#raw.writableEnded;
  }

  /** One event; `data` has no line breaks. */
  send(data: string, event?: string): void {
    if (this.closed) return;
    const sent = this.#raw.write(
      event === undefined ? `data: ${data}\n\n` : `event: ${event}\ndata: ${data}\n\n`,
    );
    if (sent) return;
    if (this.#raw.writableLength > MAX_WAITING) this.#raw.destroy();
    else this.#watch();
  }

  end(): void {
    if (this.closed) return;
    this.#raw.end();
    if (this.#raw.writableLength > 0) this.#watch();
  }

  /** While something waits for the client, the connection ends once it has taken nothing for a while. */
  #watch(): void {
    if (this.#watched) return;
    this.#watched = true;
    // The socket's own timer starts anew whenever the system takes some of what waits.
    this.#raw.setTimeout(this.#stallMs);
    this.#raw.once('drain', () => {
      this.#watched = false;
      this.#raw.setTimeout(0);
    });
  }
}
