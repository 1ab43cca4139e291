import { Validator } from '@seriousme/openapi-schema-validator';
import { Compile } from 'typebox/compile';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Server, serve } from '#turnout/server/serve.js';
import { BABEL } from '../support/babel.js';
import { fuzz, fuzzerMissing } from '../support/schemathesis.js';

// biome-ignore lint/suspicious/noExplicitAny: an OpenAPI document
type Any = any;

let server: Server;
let document: Any;

beforeAll(async () => {
  server = await serve(BABEL, { backend: 'inline', server: { port: 0 } });
  document = await (await fetch(`${server.url}/docs/openapi.json`)).json();
});
afterAll(() => server.close());

describe('/docs', () => {
  it('is OpenAPI 3.1 that a validator takes', async () => {
    expect(document.openapi).toBe('3.1.0');
    expect(await new Validator().validate(structuredClone(document))).toEqual({ valid: true });
  });

  it('has every endpoint, with what it is for and how it fails', () => {
    const operations = Object.entries<Any>(document.paths).flatMap(([path, methods]) =>
      Object.entries<Any>(methods).map(([method, operation]) => ({ name: `${method} ${path}`, operation })),
    );
    const names = operations.map(({ name }) => name);
    expect(names).toEqual(
      expect.arrayContaining([
        ...['get /v1/models', 'post /v1/completions', 'post /v1/chat/completions', 'get /v1/routing'],
        ...['get /v1/routing/events', 'post /v1/routing/trace', 'get /v1/status', 'get /metrics'],
        ...['post /v1/routing/recordings', 'get /v1/routing/recordings/{id}', 'get /v2/health/live'],
        ...['post /v2/models/{name}/infer', 'post /v2/models/{name}/versions/{version}/infer'],
      ]),
    );
    for (const { name, operation } of operations) {
      expect(operation.summary, name).toMatch(/\w/);
      expect(Object.keys(operation.responses), name).toEqual(expect.arrayContaining(['4XX', '5XX']));
    }
  });

  it('says of answers what they are', async () => {
    const ask = async (path: string, body: object) => {
      const response = await fetch(server.url + path, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
      });
      const status = response.ok ? '200' : '4XX';
      const { schema } = document.paths[path].post.responses[status].content['application/json'];
      return { errors: [...Compile(schema).Errors(await response.json())], status };
    };
    const good = { prompt: 'In', max_tokens: 3, logprobs: 2, echo: true, return_routed_experts: true };
    expect(await ask('/v1/completions', good)).toEqual({ errors: [], status: '200' });
    expect(await ask('/v1/completions', { prompt: 7 })).toEqual({ errors: [], status: '4XX' });
    expect(await ask('/v1/chat/completions', { messages: [] })).toEqual({ errors: [], status: '4XX' });
  });

  it('is a page that needs nothing from elsewhere', async () => {
    const page = await fetch(`${server.url}/docs`);
    expect(page.headers.get('content-type')).toContain('text/html');
    const text = await page.text();
    expect(
      [...text.matchAll(/(?:src|href)="([^"]+)"/g)]
        .map(([, to]) => to)
        .filter((to) => /^(https?:)?\/\//.test(to!)),
    ).toEqual([]);
    expect(page.headers.get('content-security-policy')).toContain("default-src 'self'");
  });

  it.skipIf(fuzzerMissing)(
    `holds against a fuzzer that reads it${fuzzerMissing ? `: ${fuzzerMissing}` : ''}`,
    async () => {
      const { cases, failures } = await fuzz(`${server.url}/docs/openapi.json`);
      expect(cases).toBeGreaterThan(500);
      // A request that gives itself a millisecond runs out of time.
      expect(failures.filter((failure) => !failure.includes('TURNOUT_DEADLINE_EXCEEDED'))).toEqual([]);
      expect((await fetch(`${server.url}/v2/health/ready`)).status).toBe(200);
    },
    120_000,
  );
});
