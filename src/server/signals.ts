import type { FastifyReply, FastifyRequest } from 'fastify';

/** Calls back once when a request is answered whole, or its client has gone. */
export function whenOver(
  { raw: { socket } }: FastifyRequest,
  { raw }: FastifyReply,
  callback: () => void,
): void {
  const over = () => {
    socket.off('close', over);
    raw.off('close', over);
    callback();
  };
  // Requests behind one another on a connection listen each.
  socket.setMaxListeners(0);
  // The answer to a request that was sent behind another one has no connection yet, and hears of no end.
  socket.once('close', over);
  raw.once('close', over);
}

/** Aborts when the client goes away before the answer has been written. */
export function clientGone(request: FastifyRequest, reply: FastifyReply): AbortSignal {
  const gone = new AbortController();
  const abort = () => {
    if (!reply.raw.writableFinished) gone.abort(new Error('the client went away'));
  };
  whenOver(request, reply, abort);
  if (request.raw.socket.destroyed) abort();
  return gone.signal;
}
