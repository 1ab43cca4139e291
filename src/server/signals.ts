import type { FastifyReply, FastifyRequest } from 'fastify';

/** Aborts when the client goes away before the answer has been written. */
export function clientGone({ raw: { socket } }: FastifyRequest, { raw }: FastifyReply): AbortSignal {
  const gone = new AbortController();
  const abort = () => gone.abort(new Error('the client went away'));
  // The answer to a request that was sent behind another one has no connection yet, and hears of no end.
  socket.once('close', abort);
  raw.once('close', () => {
    socket.off('close', abort);
    if (!raw.writableFinished) abort();
  });
  if (socket.destroyed) abort();
  return gone.signal;
}
