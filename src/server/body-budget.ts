import type { FastifyInstance, FastifyRequest } from 'fastify';
import { TurnoutError } from '../errors.js';
import type { CheckedOptions } from './options.js';
import { whenOver } from './signals.js';

/** How many of the largest bodies may be here at once: they are held while they come in, wait and are computed. */
const LARGEST_AT_ONCE = 8;

/** Bounds the memory of all bodies together, by the lengths that their requests claim; more get TURNOUT_OVERLOADED. */
export function addBodyBudget(app: FastifyInstance, options: CheckedOptions): void {
  const limit = LARGEST_AT_ONCE * options.bodyLimit;
  let held = 0;
  app.addHook('onRequest', async (request, reply) => {
    const bytes = claimOf(request, options);
    // One above its own limit is refused for that.
    if (bytes === 0 || bytes > options.bodyLimit) return;
    if (held + bytes > limit) {
      const message = `bodies of ${held} bytes are here already, and the server holds at most ${limit}`;
      throw new TurnoutError('TURNOUT_OVERLOADED', message, { held, limit });
    }
    held += bytes;
    whenOver(request, reply, () => {
      held -= bytes;
    });
  });
}

/** Bytes that a body may come to. */
function claimOf({ headers }: FastifyRequest, { bodyLimit, jsonLimit }: CheckedOptions): number {
  const { 'content-length': length, 'transfer-encoding': encoding, 'content-type': type } = headers;
  if (length !== undefined) return Number(length);
  if (encoding === undefined) return 0;
  return type?.startsWith('application/json') ? Math.min(jsonLimit, bodyLimit) : bodyLimit;
}
