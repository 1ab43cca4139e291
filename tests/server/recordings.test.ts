import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { GenerateResult } from '#turnout/model/generate.js';
import { layerOptions, routerOver } from '#turnout/model/layer-router.js';
import type { LayerEntry } from '#turnout/model/manifest.js';
import { type Recording, Recordings } from '#turnout/server/recordings.js';
import { matrix } from '#turnout/tensor.js';
import { plain, route } from '../support/routing.js';
import { greedy, openServer } from '../support/server.js';

const [KEY, OTHER] = ['first-key-of-the-tests', 'second-key-of-the-tests'];
const PATH = '/v1/routing/recordings';

type Opened = Awaited<ReturnType<typeof openServer>>;
let client: Opened;
beforeAll(async () => {
  client = await openServer({ apiKeys: [KEY, OTHER] });
});
afterAll(() => client.server.close());

const post = (path: string, key = KEY) => client.ask(path, undefined, { key, method: 'POST' });
const remove = (id: string, key = KEY) => client.ask(`${PATH}/${id}`, undefined, { key, method: 'DELETE' });
const get = (id: string, key = KEY) => client.ask(`${PATH}/${id}`, undefined, { key });

/** Numbers in base64, as a recording has them. */
const bytesOf = (text: string) => new Uint8Array(Buffer.from(text, 'base64')).buffer;
const ints = (text: string) => new Int32Array(bytesOf(text));
const floats = (text: string) => new Float32Array(bytesOf(text));

describe('recordings', { timeout: 30_000 }, () => {
  it('hold nothing unless they are asked for, and need keys', async () => {
    await client.complete('In the ', 3, {}, { key: KEY });
    expect((await client.ask(PATH, undefined, { key: KEY })).body).toEqual({ recordings: [] });
    expect((await post(PATH, 'no-key-of-this-server')).status).toBe(401);
    const open = await openServer();
    try {
      const refused = await open.fetch(PATH, undefined, { method: 'POST' });
      expect(refused.status).toBe(403);
      expect(await refused.json()).toMatchObject({ error: { code: 'TURNOUT_FORBIDDEN' } });
    } finally {
      await open.server.close();
    }
  });

  it('hold the requests of their own key alone, from their start to their stop', async () => {
    const begun = (await post(PATH)).body;
    expect(begun).toMatchObject({ state: 'recording', requests: 0, tokens: 0, bytes: 0 });
    const { id } = begun;
    await Promise.all([
      client.complete('In the beginning ', 6, {}, { key: KEY }),
      client.complete('And the earth was ', 5, {}, { key: KEY }),
      client.complete('of nobody else ', 7, {}, { key: OTHER }),
    ]);
    for await (const _ of client.stream('/v1/completions', greedy('streamed ', 4), { key: KEY }));
    const stopped = (await post(`${PATH}/${id}/stop`)).body;
    expect(stopped).toMatchObject({ id, state: 'stopped', requests: 3 });
    await client.complete('too late ', 3, {}, { key: KEY });

    const { status, headers, body } = await get(id);
    expect([status, headers.get('content-disposition')]).toEqual([
      200,
      `attachment; filename="routing-${id}.json"`,
    ]);
    const recording = body as Recording;
    expect(recording).toMatchObject({ format: 'turnout-recording', version: 1, model: 'babel' });
    const texts = recording.requests.map(({ ids, promptTokens }) =>
      String.fromCharCode(...ints(ids).slice(1, promptTokens)),
    );
    expect(texts.sort()).toEqual(['And the earth was ', 'In the beginning ', 'streamed ']);
    expect(recording.requests.reduce((sum, { tokens }) => sum + tokens, 0)).toBe(stopped.tokens);
  });

  it('are not there for another key: not to see, stop or delete', async () => {
    const [{ id }] = (await client.ask(PATH, undefined, { key: KEY })).body.recordings;
    expect((await client.ask(PATH, undefined, { key: OTHER })).body).toEqual({ recordings: [] });
    const missing = { status: 404, body: { error: { code: 'TURNOUT_NOT_FOUND' } } };
    expect(await get(id, OTHER)).toMatchObject(missing);
    expect(await remove(id, OTHER)).toMatchObject(missing);
    expect((await post(`${PATH}/${id}/stop`, OTHER)).status).toBe(404);
    expect((await get(crypto.randomUUID())).body).toEqual((await get(id, OTHER)).body);
    expect((await get(id)).status).toBe(200);
    expect((await client.ask('/v1/routing', undefined, { key: OTHER })).body).not.toHaveProperty('requests');
  });

  it('are replayed: a router over the recorded logits decides as it did', async () => {
    const [{ id }] = (await client.ask(PATH, undefined, { key: KEY })).body.recordings;
    await remove(id);
    const own = (await post(PATH)).body;
    for (const prompt of ['a'.repeat(60), 'In the beginning '])
      await client.complete(prompt, 20, {}, { key: KEY });
    const recording = (await get(own.id)).body as Recording;
    let dropped = 0;
    const layers: readonly LayerEntry[] = client.server.engine.info.manifest.layers;
    for (const { tokens, layers: recorded } of recording.requests) {
      for (const [l, { logits, experts, weights, drops }] of recorded.entries()) {
        const router = routerOver(layerOptions(layers[l]!), layers[l]!.experts.length);
        const routing = router.route({ logits: matrix(floats(logits), tokens, router.experts) });
        expect([...routing.expert]).toEqual([...ints(experts)]);
        expect([...routing.weight]).toEqual([...floats(weights)]);
        const reasons = new Uint8Array(bytesOf(drops));
        expect([...routing.reason]).toEqual([...reasons]);
        dropped += reasons.filter((reason) => reason !== 0).length;
      }
    }
    expect(dropped).toBeGreaterThan(0);
  });

  it('are few: one at a time, four kept, until they are deleted', async () => {
    for (const { id } of (await client.ask(PATH, undefined, { key: KEY })).body.recordings) await remove(id);
    const ids: string[] = [];
    for (let i = 0; i < 4; i++) {
      const { id } = (await post(PATH)).body;
      expect((await post(PATH)).status).toBe(403);
      await post(`${PATH}/${id}/stop`);
      ids.push(id);
    }
    expect((await post(PATH)).status).toBe(403);
    expect((await post(PATH, OTHER)).status).toBe(201);
    for (const id of ids) expect((await remove(id)).status).toBe(204);
    expect((await get(ids[0]!)).status).toBe(404);
    expect((await post(PATH)).status).toBe(201);
  });
});

describe('the recordings of a key', () => {
  const routing = route(plain({ select: { k: 2 } }), [
    [1, 2, 3],
    [3, 2, 1],
  ]);
  const result = { prompt: [1], tokens: [2, 3], routing: [routing] } as unknown as GenerateResult;

  it('stop at the most that all of them may hold together', () => {
    const recordings = new Recordings('m', [], 400);
    const first = recordings.start(0);
    recordings.add(0, result);
    const { bytes } = recordings.list(0)[0]!;
    expect(bytes).toBeGreaterThan(50);
    recordings.stop(0, first.id);
    const second = recordings.start(0);
    for (let i = 0; i < 10; i++) recordings.add(0, result);
    const [, full] = recordings.list(0);
    expect(full).toMatchObject({ id: second.id, state: 'full' });
    expect(bytes + full!.bytes).toBeLessThanOrEqual(400);
    expect(recordings.wants(0)).toBe(false);
    recordings.start(1);
    recordings.add(1, result);
    expect(recordings.list(1)[0]!.requests).toBe(1);
  });

  it('are written in parts that are JSON together, as they were when they were asked for', () => {
    const recordings = new Recordings('m', []);
    const { id } = recordings.start(0);
    const read = (parts: Iterable<string>) => JSON.parse([...parts].join('')) as Recording;
    expect(read(recordings.read(0, id)).requests).toEqual([]);
    recordings.add(0, result);
    recordings.add(0, result);
    const parts = recordings.read(0, id);
    recordings.add(0, result);
    expect(read(parts).requests).toHaveLength(2);
    expect(read(recordings.read(0, id)).requests).toHaveLength(3);
  });
});
