import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { describe, expect, it } from 'vitest';
import type { ServedModel } from '#turnout/server/inference-protocol/served-model.js';
import { Ids, scaled, serveModels, serveWithin } from '../../support/served.js';

const request = { inputs: [{ name: 'ids', shape: [2], datatype: 'INT64', data: [3, 4] }] };
const error = (code: string, message: RegExp) => ({
  error: expect.stringMatching(new RegExp(`^TURNOUT_${code}: .*${message.source}`)),
});

describe('health and metadata', () => {
  it('tells that the server lives, and whether it and its models are ready', async () => {
    const ids = new Ids();
    const app = await serveModels(ids, scaled);
    const get = async (url: string) => {
      const answer = await app.inject(url);
      return [answer.statusCode, answer.json()];
    };
    expect(await get('/v2/health/live')).toEqual([200, { live: true }]);
    expect(await get('/v2/health/ready')).toEqual([200, { ready: true }]);
    expect(await get('/v2/models/ids/ready')).toEqual([200, { name: 'ids', ready: true }]);
    ids.isReady = false;
    expect(await get('/v2/health/live')).toEqual([200, { live: true }]);
    expect(await get('/v2/health/ready')).toEqual([503, { ready: false }]);
    expect(await get('/v2/models/ids/versions/1/ready')).toEqual([503, { name: 'ids', ready: false }]);
    expect(await get('/v2/models/scaled/ready')).toEqual([200, { name: 'scaled', ready: true }]);
  });

  it('describes the server and its models', async () => {
    const app = await serveModels(new Ids());
    const server = {
      name: 'turnout',
      version: '1.2.3',
      extensions: expect.arrayContaining(['binary_tensor_data']),
    };
    expect((await app.inject('/v2')).json()).toEqual(server);
    const model = (await app.inject('/v2/models/ids')).json();
    expect(model).toEqual({
      name: 'ids',
      versions: ['1'],
      platform: 'test',
      inputs: [{ name: 'ids', datatype: 'INT64', shape: [-1, -1] }],
      outputs: [
        { name: 'same', datatype: 'INT64', shape: [-1, -1] },
        { name: 'half', datatype: 'FP32', shape: [-1, -1] },
        { name: 'low', datatype: 'INT32', shape: [-1, -1] },
        { name: 'byte', datatype: 'UINT8', shape: [-1, -1] },
      ],
    });
    expect((await app.inject('/v2/models/ids/versions/1')).json()).toEqual(model);
  });

  it.each([
    ['GET', '/v2/models/nobody', /no model "nobody"; there are ids/],
    ['GET', '/v2/models/__proto__', /no model "__proto__"/],
    ['GET', '/v2/models/ids/versions/2', /ids has no version "2"; it has 1/],
    ['GET', '/v2/models/nobody/ready', /no model/],
    ['POST', '/v2/models/nobody/infer', /no model/],
    ['POST', '/v2/models/ids/versions/01/infer', /no version "01"/],
  ] as const)('%s %s is not found', async (method, url, message) => {
    const app = await serveModels(new Ids());
    const answer = await app.inject({ method, url });
    expect([answer.statusCode, answer.json()]).toEqual([404, error('NOT_FOUND', message)]);
  });
});

describe('infer', () => {
  it.each(['application/json', 'application/json; charset=UTF-8', undefined, 'application/octet-stream'])(
    'takes JSON as %s',
    async (type) => {
      const app = await serveModels(new Ids());
      const headers = type === undefined ? {} : { 'content-type': type };
      const url = '/v2/models/ids/versions/1/infer';
      const answer = await app.inject({
        method: 'POST',
        url,
        headers,
        payload: Buffer.from(JSON.stringify(request)),
      });
      expect(answer.json()).toMatchObject({
        model_name: 'ids',
        outputs: [{ name: 'same', data: [3, 4] }, {}, {}, {}],
      });
    },
  );

  it('tells the model what was asked for', async () => {
    const ids = new Ids();
    const app = await serveModels(ids);
    const payload = { ...request, outputs: [{ name: 'low' }], parameters: { timeout: 5000, priority: 1 } };
    const address = await app.listen({ port: 0, host: '127.0.0.1' });
    await (
      await fetch(`${address}/v2/models/ids/infer`, {
        method: 'POST',
        body: Buffer.from(JSON.stringify(payload)),
      })
    ).json();
    expect(ids.calls[0]).toMatchObject({ outputs: ['low'], timeoutMs: 5, priority: 1 });
    expect(ids.calls[0]!.signal.aborted).toBe(false);
  });

  it('answers a raw body in binary', async () => {
    const app = await serveModels(new Ids());
    const headers = { 'inference-header-content-length': '0' };
    const payload = Buffer.from(BigInt64Array.of(6n).buffer);
    const answer = await app.inject({ method: 'POST', url: '/v2/models/ids/infer', headers, payload });
    expect(answer.headers['content-type']).toBe('application/octet-stream');
    const json = Number(answer.headers['inference-header-content-length']);
    expect(answer.rawPayload.subarray(json).toString('hex')).toBe(
      '0600000000000000' + '00004040' + '06000000' + '06',
    );
  });

  it.each([
    ['text/plain', /Content-Type: expected application\/json or application\/octet-stream, got "text/],
    ['application/json; charset=latin1', /charset=latin1/],
    ['application/x-www-form-urlencoded', /Content-Type/],
    ['nonsense', /./],
  ])('refuses the content type %s', async (type, message) => {
    const app = await serveModels(new Ids());
    const headers = { 'content-type': type };
    const answer = await app.inject({ method: 'POST', url: '/v2/models/ids/infer', headers, payload: '{}' });
    expect([answer.statusCode, answer.json()]).toEqual([415, error('MEDIA_TYPE_UNSUPPORTED', message)]);
  });

  it('refuses compressed bodies', async () => {
    const app = await serveModels(new Ids());
    const headers = { 'content-encoding': 'gzip' };
    const answer = await app.inject({ method: 'POST', url: '/v2/models/ids/infer', headers, payload: 'x' });
    expect([answer.statusCode, answer.json()]).toEqual([
      415,
      error('MEDIA_TYPE_UNSUPPORTED', /Content-Encoding/),
    ]);
  });

  it('refuses bodies beyond the limit by their announced length', async () => {
    const app = await serveModels(new Ids());
    const headers = { 'content-length': '2147483648' };
    const answer = await app.inject({ method: 'POST', url: '/v2/models/ids/infer', headers, payload: 'x' });
    expect([answer.statusCode, answer.json()]).toEqual([413, error('REQUEST_TOO_LARGE', /./)]);
  });

  it('says nothing of errors that nobody foresaw', async () => {
    const broken: ServedModel = { ...scaled, infer: () => Promise.reject(new Error('secret')) };
    const app = await serveModels(broken);
    const inputs = [
      { name: 'x', shape: [0, 4], datatype: 'FP32', data: [] },
      { name: 'scale', shape: [0], datatype: 'FP32', data: [] },
    ];
    const answer = await app.inject({ method: 'POST', url: '/v2/models/scaled/infer', payload: { inputs } });
    expect(answer.statusCode).toBe(500);
    expect(answer.body).not.toContain('secret');
  });

  it('lets the model know when the client goes away', async () => {
    let asked!: (signal: AbortSignal) => void;
    const called = new Promise<AbortSignal>((resolve) => {
      asked = resolve;
    });
    const waiting: ServedModel = {
      ...new Ids(),
      name: 'waiting',
      ready: () => true,
      infer: (_, { signal }) => {
        asked(signal);
        return new Promise((_resolve, reject) =>
          signal.addEventListener('abort', () => reject(signal.reason)),
        );
      },
    };
    const app = await serveModels(waiting);
    await app.listen({ port: 0, host: '127.0.0.1' });
    const socket = connect((app.server.address() as AddressInfo).port, '127.0.0.1');
    const body = JSON.stringify(request);
    socket.write(
      `POST /v2/models/waiting/infer HTTP/1.1\r\nhost: a\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    );
    const signal = await called;
    expect(signal.aborted).toBe(false);
    socket.destroy();
    await once(signal, 'abort');
  });

  it('lets clients that take nothing of their answer go', async () => {
    const answer = { datatype: 'FP32', shape: [4e6], data: new Float32Array(4e6) } as const;
    const large: ServedModel = {
      ...scaled,
      inputs: new Ids().inputs,
      infer: async () => new Map([['y', answer]]),
    };
    const app = await serveWithin({ stallMs: 100 }, large);
    await app.listen({ port: 0, host: '127.0.0.1' });
    const socket = connect((app.server.address() as AddressInfo).port, '127.0.0.1').pause();
    const head = 'POST /v2/models/scaled/infer HTTP/1.1\r\nhost: a\r\ninference-header-content-length: 0\r\n';
    socket.write(`${head}content-length: 8\r\n\r\n${'\0'.repeat(8)}`);
    const [served] = (await once(app.server, 'request')) as [IncomingMessage];
    await once(served.socket, 'close');
    expect(served.socket.bytesWritten).toBeGreaterThan(0);
    socket.destroy();
  });
});
