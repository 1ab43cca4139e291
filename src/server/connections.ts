import type { Socket } from 'node:net';
import type { FastifyInstance } from 'fastify';
import { TurnoutError } from '../errors.js';
import { openaiError } from './errors.js';

/** What Node refuses before there is a request: its code -> status, and what to say. */
const KINDS: Readonly<Record<string, readonly [status: string, message: string]>> = {
  HPE_HEADER_OVERFLOW: ['431 Request Header Fields Too Large', 'the headers of the request are too large'],
  HPE_CHUNK_EXTENSIONS_OVERFLOW: ['413 Payload Too Large', 'the chunk extensions of the body are too large'],
  ERR_HTTP_REQUEST_TIMEOUT: ['408 Request Timeout', 'the request did not come whole in time'],
};
const OTHERS = ['400 Bad Request', 'the request is no valid HTTP'] as const;

/** Answers bytes that are no request in the shape of all errors, and ends the connection. */
export function answerUnreadable(error: Error & { readonly code?: string }, socket: Socket): void {
  // Nobody reads it, or an answer is under way that this one would fall into.
  if (error.code === 'ECONNRESET' || !socket.writable || answerOn(socket) === 'begun') {
    socket.destroy();
    return;
  }
  const [status, message] = KINDS[error.code ?? ''] ?? OTHERS;
  const body = JSON.stringify(openaiError(new TurnoutError('TURNOUT_REQUEST_INVALID', message)));
  const head = `HTTP/1.1 ${status}\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}`;
  socket.end(`${head}\r\nconnection: close\r\n\r\n${body}`, () => socket.destroy());
}

/** Ends connections whose client takes nothing of its answer for `stallMs`. Event streams look after themselves. */
export function addStall(app: FastifyInstance, stallMs: number): void {
  app.addHook('onSend', async (_, { raw }) => {
    raw.setTimeout(stallMs);
  });
  app.server.on('timeout', (socket: Socket) => {
    // Behind an answer that was taken, another one may be computing: it has a time limit of its own.
    if (answerOn(socket) !== 'awaited') socket.destroy();
  });
}

/** What a connection is about to send; Node keeps it there and looks there itself. */
function answerOn(socket: Socket): 'none' | 'awaited' | 'begun' {
  const { _httpMessage: answer } = socket as { _httpMessage?: { readonly headersSent: boolean } | null };
  if (!answer) return 'none';
  return answer.headersSent ? 'begun' : 'awaited';
}
