import { request } from 'node:http';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkServerOptions, type ServerOptions } from '#turnout/server/options.js';
import { serve } from '#turnout/server/serve.js';
import { BABEL } from '../support/babel.js';
import { turnout } from '../support/cli.js';
import { greedy, openServer, serverForTest } from '../support/server.js';

const KEYS = ['first-key-of-the-tests', 'second-key-of-the-tests'];
const PAGE = 'https://page.example';

type Opened = Awaited<ReturnType<typeof openServer>>;
let open: Opened;
let keyed: Opened;
beforeAll(async () => {
  [open, keyed] = await Promise.all([
    openServer({ allowedHosts: ['Turnout.test'], jsonLimit: 4096 }),
    openServer({ apiKeys: KEYS, corsOrigins: [PAGE], rateLimit: 1000 }),
  ]);
});
afterAll(() => Promise.all([open.server.close(), keyed.server.close()]));

/** What fetch does not let one set: the name of the host. */
async function withHost(client: Opened, host: string, more: Record<string, string> = {}): Promise<number> {
  const asking = request({ port: client.port, path: '/v1/models', headers: { host, ...more } }).end();
  return new Promise((resolve, reject) => {
    asking.on('error', reject);
    asking.on('response', (response) => {
      response.resume();
      resolve(response.statusCode!);
    });
  });
}

describe('keys', () => {
  it.each([
    ['none', {}],
    ['a wrong one', { authorization: `Bearer ${KEYS[0]}x` }],
    ['the beginning of one', { authorization: `Bearer ${KEYS[0]!.slice(0, -1)}` }],
    ['another scheme', { authorization: `Basic ${Buffer.from(`a:${KEYS[0]}`).toString('base64')}` }],
    ['two', { authorization: `Bearer ${KEYS[0]} ${KEYS[1]}` }],
    ['an empty one', { authorization: 'Bearer ' }],
  ])('are asked for: %s', async (_, headers) => {
    for (const path of ['/v1/models', '/metrics', '/v1/status', '/v1/routing/events', '/nowhere']) {
      const { status, headers: answered, body } = await keyed.ask(path, undefined, { headers });
      expect([path, status]).toEqual([path, 401]);
      expect(answered.get('www-authenticate')).toMatch(/^Bearer/);
      expect(answered.get('x-content-type-options')).toBe('nosniff');
      expect(body.error).toMatchObject({ type: 'authentication_error', code: 'TURNOUT_UNAUTHORIZED' });
    }
    const posted = await keyed.ask('/v1/completions', greedy('a', 1), { headers });
    expect(posted.status).toBe(401);
  });

  it.each(KEYS)('open the endpoints, each of them: %s', async (key) => {
    expect((await keyed.ask('/v1/models', undefined, { key })).status).toBe(200);
    expect(await keyed.complete('In the ', 2, {}, { key })).toHaveLength(2);
    const headers = { authorization: `bearer   ${key} ` };
    expect((await keyed.ask('/v1/models', undefined, { headers })).status).toBe(200);
  });

  it('are not asked for by what tells nothing of requests', async () => {
    const open = [
      '/',
      '/assets/style.css',
      '/docs/',
      '/docs/openapi.json',
      '/v2/health/live',
      '/v2/health/ready',
    ];
    for (const path of open) expect([path, (await keyed.ask(path)).status]).toEqual([path, 200]);
    for (const path of ['/v2', '/v2/models/babel']) {
      const { status, body } = await keyed.ask(path);
      expect([status, body.error]).toEqual([401, expect.stringMatching(/^TURNOUT_UNAUTHORIZED: /)]);
    }
  });

  it.each([
    ['too short', ['short']],
    ['with a space', ['key with spaces in it']],
    ['beyond ASCII', ['schlüssel-schlüssel']],
  ])('are refused at the start: %s', (_, apiKeys) => {
    expect(() => checkServerOptions({ apiKeys })).toThrow(
      expect.objectContaining({ code: 'TURNOUT_OPTIONS_INVALID' }),
    );
  });
});

describe('browsers', () => {
  it.each(['evil.example', 'evil.example:8080', 'localhost.evil.example', '127.0.0.1.evil.example'])(
    'get nothing under a name that somebody pointed here: %s',
    async (host) => expect(await withHost(open, host)).toBe(403),
  );

  it.each(['localhost', 'LOCALHOST:99', '127.0.0.1:8080', '[::1]:8080', 'turnout.test:80'])(
    'may use the names of the server: %s',
    async (host) => expect(await withHost(open, host)).toBe(200),
  );

  it('may not be sent here by pages of others', async () => {
    for (const origin of ['https://evil.example', 'null', 'http://localhost:1', 'nonsense']) {
      const { status, headers, body } = await open.ask('/v1/completions', greedy('a', 1), {
        headers: { origin },
      });
      expect([origin, status, body.error.code]).toEqual([origin, 403, 'TURNOUT_FORBIDDEN']);
      expect(headers.get('access-control-allow-origin')).toBeNull();
    }
    const own = { origin: open.url };
    expect((await open.ask('/v1/completions', greedy('a', 1), { headers: own })).status).toBe(200);
    expect(await withHost(open, 'localhost:99', { origin: 'http://localhost:99' })).toBe(200);
  });

  it('may call from listed sites, and ask first without a key', async () => {
    const asks = { origin: PAGE, 'access-control-request-method': 'POST' };
    const headers = { ...asks, 'access-control-request-headers': 'authorization, content-type' };
    const preflight = await keyed.ask('/v1/completions', undefined, { method: 'OPTIONS', headers });
    expect(preflight.status).toBe(204);
    expect(preflight.headers.get('access-control-allow-origin')).toBe(PAGE);
    expect(preflight.headers.get('access-control-allow-headers')).toContain('authorization');
    expect(preflight.headers.get('access-control-allow-methods')).toContain('DELETE');

    const options = { key: KEYS[0]!, headers: { origin: PAGE } };
    const called = await keyed.ask('/v1/completions', greedy('a', 1), options);
    expect([called.status, called.headers.get('access-control-allow-origin')]).toEqual([200, PAGE]);
    const streamed = await keyed.fetch('/v1/completions', greedy('a', 1, { stream: true }), options);
    expect(streamed.headers.get('access-control-allow-origin')).toBe(PAGE);
    await streamed.text();
  });

  it.each(['*', 'page.example', 'https://page.example/', 'https://page.example/path', 'null'])(
    'are not listed as what is no site: %s',
    (origin) => {
      const refused = { code: 'TURNOUT_OPTIONS_INVALID', message: expect.stringMatching(/corsOrigins/) };
      expect(() => checkServerOptions({ corsOrigins: [origin] })).toThrow(expect.objectContaining(refused));
    },
  );

  it('are told of a missing key from listed sites, and nothing from others', async () => {
    const listed = await keyed.ask('/v1/models', undefined, { headers: { origin: PAGE } });
    expect([listed.status, listed.headers.get('access-control-allow-origin')]).toEqual([401, PAGE]);
    const headers = { origin: 'https://evil.example', 'access-control-request-method': 'POST' };
    const other = await keyed.ask('/v1/models', undefined, { method: 'OPTIONS', headers });
    expect(other.headers.get('access-control-allow-origin')).toBeNull();
    const called = await keyed.ask('/v1/models', undefined, {
      key: KEYS[0]!,
      headers: { origin: 'https://evil.example' },
    });
    expect([called.status, called.headers.get('access-control-allow-origin')]).toEqual([403, null]);
  });

  it('get no CORS headers where it is off', async () => {
    const headers = { origin: PAGE, 'access-control-request-method': 'POST' };
    const preflight = await open.ask('/v1/completions', undefined, { method: 'OPTIONS', headers });
    expect(preflight.status).toBe(403);
    expect([...preflight.headers.keys()].filter((name) => name.startsWith('access-control'))).toEqual([]);
  });

  it('are told to load nothing else and to guess nothing', async () => {
    for (const path of ['/v1/models', '/nowhere']) {
      const { headers } = await open.ask(path);
      expect(headers.get('content-security-policy')).toContain("default-src 'self'");
      expect(headers.get('content-security-policy')).not.toContain('upgrade-insecure-requests');
      expect(headers.get('x-content-type-options')).toBe('nosniff');
      expect(headers.get('x-frame-options')).toBe('SAMEORIGIN');
      expect(headers.get('x-powered-by')).toBeNull();
    }
    const streamed = await open.fetch('/v1/completions', greedy('a', 1, { stream: true }));
    expect(streamed.headers.get('x-content-type-options')).toBe('nosniff');
    await streamed.text();
  });
});

describe('limits', () => {
  it('of the rate: 429 with Retry-After for each key of its own', { timeout: 20_000 }, async () => {
    const limited = await serverForTest({ apiKeys: KEYS, rateLimit: 3 });
    const statuses: number[] = [];
    for (let i = 0; i < 5; i++)
      statuses.push((await limited.ask('/v1/models', undefined, { key: KEYS[0]! })).status);
    expect(statuses).toEqual([200, 200, 200, 429, 429]);
    const refused = await limited.ask('/v1/completions', greedy('a', 1), { key: KEYS[0]! });
    expect(refused.body.error).toMatchObject({ type: 'rate_limit_error', code: 'TURNOUT_RATE_LIMITED' });
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
    expect((await limited.ask('/v1/models', undefined, { key: KEYS[1]! })).status).toBe(200);
    for (let i = 0; i < 5; i++) expect((await limited.ask('/docs/openapi.json')).status).toBe(200);
  });

  it('of bodies: 413, told before they are read', async () => {
    const { status, body } = await open.ask('/v1/completions', greedy('a'.repeat(5000), 1));
    expect([status, body.error.code]).toEqual([413, 'TURNOUT_REQUEST_TOO_LARGE']);
    const claim = 'POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n';
    const claimed = await open.raw(`${claim}content-length: 99999999999\r\n\r\n{`);
    expect(claimed).toMatch(/^HTTP\/1.1 413 /);
    const parts = `${'1000\r\n'}${'a'.repeat(4096)}\r\n`;
    const chunked = await open.raw(`${claim}transfer-encoding: chunked\r\n\r\n${parts}${parts}0\r\n\r\n`);
    expect(chunked).toMatch(/^HTTP\/1.1 413 /);
  });

  it('of headers: 431, in the shape of all errors', async () => {
    const answer = await open.raw(
      `GET /v1/models HTTP/1.1\r\nhost: localhost\r\nx-big: ${'a'.repeat(20_000)}\r\n\r\n`,
    );
    expect(answer).toMatch(/^HTTP\/1.1 431 /);
    expect(JSON.parse(answer.split('\r\n\r\n')[1]!).error.code).toBe('TURNOUT_REQUEST_INVALID');
  });

  it.each([
    ['no HTTP', 'hello\r\n\r\n', 400, 'TURNOUT_REQUEST_INVALID'],
    [
      'two lengths',
      'POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\na',
      400,
      'TURNOUT_REQUEST_INVALID',
    ],
    [
      'a path that is none',
      'GET /v1/models/%zz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n',
      400,
      'TURNOUT_REQUEST_INVALID',
    ],
    [
      'a name that is too long',
      `GET /v1/models/${'a'.repeat(999)} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n`,
      404,
      'TURNOUT_NOT_FOUND',
    ],
  ])('of what is a request: %s', async (_, bytes, status, code) => {
    const answer = await open.raw(bytes);
    expect(Number(answer.split(' ')[1])).toBe(status);
    expect(JSON.parse(answer.split('\r\n\r\n')[1]!).error.code).toBe(code);
  });

  it('of methods: one that an endpoint does not have is not found, and events have no HEAD', async () => {
    for (const [method, path] of [
      ['PUT', '/v1/completions'],
      ['HEAD', '/v1/routing/events'],
    ] as const) {
      const response = await fetch(open.url + path, { method });
      expect(response.status).toBe(404);
    }
  });
});

describe('a public address', { timeout: 60_000 }, () => {
  it.each(['0.0.0.0', '::', '192.0.2.1', '', '127.0.0.1.example', '::ffff:127.0.0.1'])(
    'needs a key: %s',
    (host) => {
      const refused = expect.objectContaining({
        code: 'TURNOUT_OPTIONS_INVALID',
        message: expect.stringMatching(/API key/),
      });
      expect(() => checkServerOptions({ host })).toThrow(refused);
      expect(checkServerOptions({ host, apiKeys: KEYS }).host).toBe(host);
      expect(checkServerOptions({ host, publicWithoutKey: true }).host).toBe(host);
    },
  );

  it('is refused without one by the library and the command', async () => {
    const server: ServerOptions = { host: '0.0.0.0', port: 0 };
    await expect(serve(BABEL, { server })).rejects.toMatchObject({ code: 'TURNOUT_OPTIONS_INVALID' });
    const { code, err } = await turnout(['serve', '--host', '0.0.0.0'], '', { TURNOUT_API_KEY: '' });
    expect(code).toBe(1);
    expect(err).toMatch(/TURNOUT_OPTIONS_INVALID: host: 0\.0\.0\.0 .*API key/);
  });

  it('asks for the key there too', async () => {
    const own = await serverForTest({ host: '0.0.0.0', apiKeys: KEYS });
    const url = `http://127.0.0.1:${own.port}/v1/models`;
    expect((await fetch(url)).status).toBe(401);
    const asking = request(url, {
      headers: { authorization: `Bearer ${KEYS[0]}`, host: 'name.example' },
    }).end();
    const answer = await new Promise<string>((resolve) =>
      asking.on('response', (response) => resolve(text(response))),
    );
    expect(answer).toContain('babel');
  });
});
