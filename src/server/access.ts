import { createHash, timingSafeEqual } from 'node:crypto';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { TurnoutError } from '../errors.js';
import { type CheckedOptions, isLoopback } from './options.js';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Open to everybody, also where the server has keys: it tells nothing of requests. */
    open?: boolean;
  }
  interface FastifyRequest {
    /** Which key the request came with, as a number that tells nothing of it; undefined where the server has none. */
    keyNumber: number | undefined;
  }
}

/** Lets in who may come in: by the host that the request names, the site that it comes from, and its key. */
export function addAccess(app: FastifyInstance, options: CheckedOptions): void {
  const keys = options.apiKeys.map(digest);
  app.decorateRequest('keyNumber', undefined);
  app.addHook('onRequest', async (request) => {
    checkHost(request, options);
    checkOrigin(request, options);
    if (keys.length === 0) return;
    request.keyNumber = keyOf(request, keys);
    if (request.keyNumber === undefined && !request.routeOptions.config.open) {
      throw new TurnoutError(
        'TURNOUT_UNAUTHORIZED',
        'expected the header Authorization: Bearer KEY with a key of this server',
      );
    }
  });
}

/**
 * On loopback without keys the browser is the only way in from outside: a page that has its own name point here (DNS
 * rebinding) still sends that name.
 */
function checkHost({ headers }: FastifyRequest, { host, allowedHosts, apiKeys }: CheckedOptions): void {
  if (apiKeys.length > 0 || !isLoopback(host)) return;
  const name = hostName(headers.host ?? '');
  if (isLoopback(name) || [host, ...allowedHosts].some((own) => own.toLowerCase() === name)) return;
  throw new TurnoutError(
    'TURNOUT_FORBIDDEN',
    `the host ${JSON.stringify(name)} is none of this server's names`,
  );
}

/** Pages of other sites may call nothing unless they are listed: browsers send their origin with every call that changes something. */
function checkOrigin({ headers }: FastifyRequest, { corsOrigins }: CheckedOptions): void {
  const { origin, host } = headers;
  if (origin === undefined || corsOrigins.includes(origin)) return;
  if (URL.canParse(origin) && new URL(origin).host === host) return;
  throw new TurnoutError('TURNOUT_FORBIDDEN', `pages of ${JSON.stringify(origin)} may not call this server`);
}

function hostName(host: string): string {
  return host
    .replace(/:\d*$/, '')
    .replace(/^\[(.*)\]$/, '$1')
    .toLowerCase();
}

/** The number of the key that the request brings. Compares all of them in constant time. */
function keyOf({ headers }: FastifyRequest, keys: readonly Buffer[]): number | undefined {
  const [, token] = /^Bearer +(\S+) *$/i.exec(headers.authorization ?? '') ?? [];
  const given = digest(token ?? '');
  let found: number | undefined;
  for (const [number, key] of keys.entries()) if (timingSafeEqual(key, given)) found = number;
  return token === undefined ? undefined : found;
}

function digest(key: string): Buffer {
  return createHash('sha256').update(key).digest();
}
