import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import type { FastifyInstance } from 'fastify';
import Type from 'typebox';
import type { ServerContext } from './context.js';

const OpenaiError = Type.Object(
  {
    error: Type.Object({
      message: Type.String(),
      type: Type.String(),
      param: Type.Union([Type.String(), Type.Null()]),
      code: Type.String({ description: 'TURNOUT_...: docs/errors.md' }),
    }),
  },
  { description: 'What was expected and what came' },
);
const InferenceError = Type.Object(
  { error: Type.String() },
  { description: 'CODE: what was expected and what came' },
);

/** Its pages load nothing from elsewhere; swagger-ui writes styles and pictures into its pages. */
const CONTENT_SECURITY =
  "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; frame-ancestors 'none'";

/** `/docs`: the endpoints as OpenAPI, from the schemas that check requests. To be added before the endpoints. */
export async function addDocs(
  app: FastifyInstance,
  { engine, version, options }: ServerContext,
): Promise<void> {
  const keyed = options.apiKeys.length > 0;
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: `turnout: ${engine.info.manifest.name}`,
        version,
        description: 'Mixture-of-Experts inference with its routing in sight.',
      },
      ...(keyed && {
        components: { securitySchemes: { key: { type: 'http', scheme: 'bearer' } } },
        security: [{ key: [] }],
      }),
    },
  });
  // What an endpoint answers where something is wrong is the same everywhere.
  app.addHook('onRoute', (endpoint) => {
    const error = endpoint.url.startsWith('/v2') ? InferenceError : OpenaiError;
    const response = { ...(endpoint.schema?.response as object), '4xx': error, '5xx': error };
    endpoint.schema = { ...endpoint.schema, response };
  });
  // Its pages are open like the dashboard: they hold nothing but schemas.
  app.addHook('onRoute', (endpoint) => {
    if (endpoint.url.startsWith('/docs')) endpoint.config = { ...endpoint.config, open: true };
  });
  await app.register(swaggerUi, {
    routePrefix: '/docs',
    staticCSP: CONTENT_SECURITY,
    uiConfig: { validatorUrl: null },
  });
  app.get('/docs/openapi.json', { schema: { hide: true } }, async () => app.swagger());
}
