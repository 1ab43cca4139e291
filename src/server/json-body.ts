import type { FastifyInstance } from 'fastify';
import { checker } from '../schema.js';
import { parseJson } from './json.js';

/** Takes bodies in JSON of at most `limit` bytes, and no others: content types that an HTML form can send are refused. */
export function addJsonParser(app: FastifyInstance, limit: number): void {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('application/json', { parseAs: 'buffer', bodyLimit: limit }, (_, body, done) => {
    try {
      done(null, parseJson(body as Buffer));
    } catch (error) {
      done(error as Error);
    }
  });
}

/** Checks what clients send against the endpoints' TypeBox schemas as it is: nothing is converted, added or left out. */
export function addValidator(app: FastifyInstance): void {
  app.setValidatorCompiler(({ schema, httpPart }) => {
    const check = checker(
      schema as Parameters<typeof checker>[0],
      'TURNOUT_REQUEST_INVALID',
      httpPart ?? 'request',
    );
    return (value: unknown) => {
      try {
        return { value: check(value) };
      } catch (error) {
        return { error: error as Error };
      }
    };
  });
}
