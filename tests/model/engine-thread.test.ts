import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Worker } from 'node:worker_threads';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { EngineThread } from '#turnout/model/engine-thread.js';
import type { Piece } from '#turnout/model/generate.js';
import { MoeModel } from '#turnout/model/moe-model.js';
import { matrix } from '#turnout/tensor.js';
import { BABEL } from '../support/babel.js';

let engine: EngineThread;
let model: MoeModel;
beforeAll(async () => {
  [engine, model] = await Promise.all([
    EngineThread.open(BABEL, { backend: 'inline' }),
    MoeModel.open(BABEL, { backend: 'inline' }),
  ]);
});
afterAll(() => Promise.all([engine.close(), model.close()]));

const GREEDY = { temperature: 0, ignoreEnd: true };
const LONG = { ...GREEDY, maxTokens: 1500, record: false };
const running = async () => (await engine.snapshot()).running;

describe('an engine in a thread', () => {
  it('generates what the model generates in this thread: text, tokens, probabilities and routing', async () => {
    const options = { ...GREEDY, temperature: 0.8, seed: 5, maxTokens: 40, top: 2, scorePrompt: true };
    const there = await engine.generate('Die Datei ', options);
    const here = await model.generate('Die Datei ', options).result();
    const { text, tokens, logprobs, prompt, reason, promptLogprobs, routing } = here;
    expect(there).toMatchObject({ text, tokens, logprobs, prompt, reason, promptLogprobs });
    expect(there.routing).toEqual(routing);
    expect(there.routing).toHaveLength(4);
  });

  it('scores what the model scores: the same bits', async () => {
    const ids = BigInt64Array.from([256n, 73n, 110n, 32n, 116n, 104n, 101n, 32n]);
    const feeds = { input_ids: { type: 'int64', dims: [2, 4], data: ids } } as const;
    const there = await engine.score({ ids, dims: [2, 4] });
    const here = await model.run(feeds);
    expect(there.logits).toEqual(here.logits);
  });

  it('hands text over as it comes, and every token once', async () => {
    const pieces: { piece: Piece; ms: number }[] = [];
    const onPiece = (piece: Piece) => pieces.push({ piece, ms: performance.now() });
    const result = await engine.generate('In the ', { ...GREEDY, maxTokens: 30, onPiece });
    expect(pieces.map(({ piece }) => piece.text).join('')).toBe(result.text);
    expect(pieces.flatMap(({ piece }) => piece.tokens.map(({ id }) => id))).toEqual(result.tokens);
    expect(pieces.length).toBeGreaterThan(10);
    expect(pieces.at(-1)!.ms - pieces[0]!.ms).toBeGreaterThan(1);
  });

  it('fails the generation whose listener throws, and no other', async () => {
    const broken = new Error('a listener that breaks');
    const onPiece = () => {
      throw broken;
    };
    const [bad, good] = await Promise.allSettled([
      engine.generate('In the ', { ...LONG, onPiece }),
      engine.generate('In the ', { ...GREEDY, maxTokens: 20 }),
    ]);
    expect(bad).toMatchObject({ status: 'rejected', reason: broken });
    expect(good).toMatchObject({ status: 'fulfilled' });
    await vi.waitFor(async () => expect(await running()).toBe(0), 5000);
  });

  it('settles an aborted call at once, and frees its place with the next step', async () => {
    const stop = new AbortController();
    const call = engine.generate('In the ', { ...LONG, signal: stop.signal });
    await vi.waitFor(async () => expect(await running()).toBe(1), 5000);
    const { steps: before } = await engine.snapshot();
    stop.abort(new Error('enough'));
    const aborted = performance.now();
    await expect(call).rejects.toMatchObject({
      code: 'TURNOUT_ABORTED',
      message: expect.stringContaining('enough'),
    });
    expect(performance.now() - aborted).toBeLessThan(50);
    // What is asked for after it comes after it: at most the step under way was still its own.
    await vi.waitFor(async () => expect(await running()).toBe(0), 5000);
    const { steps: after, cache } = await engine.snapshot();
    expect(after - before).toBeLessThan(60);
    expect(cache.used).toBe(0);
  });

  it('ends a call at its deadline, and stops computing for it', async () => {
    const call = engine.generate('In the ', { ...LONG, timeoutMs: 80 });
    await expect(call).rejects.toMatchObject({ code: 'TURNOUT_DEADLINE_EXCEEDED' });
    await vi.waitFor(async () => expect(await running()).toBe(0), 5000);
  });

  it.each([
    ['a token that is none', [400], { maxTokens: 1 }, 'TURNOUT_INPUT_INVALID'],
    ['a context that is too long', [1], { maxTokens: 3000 }, 'TURNOUT_CONTEXT_EXCEEDED'],
    ['a temperature below 0', 'a', { temperature: -1 }, 'TURNOUT_OPTIONS_INVALID'],
    ['an unknown preset', 'a', { router: { preset: 'nope' } }, 'TURNOUT_PRESET_UNKNOWN'],
  ])('tells what is wrong with code and details: %s', async (_, prompt, options, code) => {
    await expect(engine.generate(prompt, options)).rejects.toMatchObject({ code });
  });

  it('refuses a layer that is not there', async () => {
    const x = matrix(new Float32Array(128), 1, 128);
    await expect(engine.layer(4, { x })).rejects.toMatchObject({
      code: 'TURNOUT_INPUT_INVALID',
      message: expect.stringContaining('from 0 to 3'),
    });
  });

  it('gives another rule to one call alone', async () => {
    const options = { ...GREEDY, maxTokens: 4 };
    const [narrow, wide] = await Promise.all([
      engine.generate('In the ', { ...options, router: { k: 1 } }),
      engine.generate('In the ', options),
    ]);
    expect([narrow.routing[0]!.choices, wide.routing[0]!.choices]).toEqual([1, 2]);
  });
});

describe('an engine in a thread that ends', { timeout: 60_000 }, () => {
  it('lets what runs end when it is closed, layers and other rules too, and takes no more', async () => {
    const own = await EngineThread.open(BABEL, { backend: 'inline' });
    const x = matrix(new Float32Array(700 * 128).fill(0.25), 700, 128);
    const all = [
      own.generate('In the ', { ...GREEDY, maxTokens: 30 }),
      own.generate('In the ', { ...GREEDY, maxTokens: 60, router: { k: 1 } }),
      ...[0, 1, 2, 3].flatMap((layer) => [own.layer(layer, { x }), own.layer(layer, { x })]),
    ];
    const closing = own.close();
    await expect(own.generate('a')).rejects.toMatchObject({ code: 'TURNOUT_CLOSED' });
    const settled = await Promise.allSettled(all);
    expect(settled.map(({ status }) => status)).toEqual(all.map(() => 'fulfilled'));
    await closing;
    await own.close();
    expect(await own.ended).toBeUndefined();
  });

  it('closes while calls are aborted', async () => {
    const own = await EngineThread.open(BABEL, { backend: 'inline' });
    const stop = new AbortController();
    const calls = [{}, { router: { k: 1 } }].map((more) =>
      own.generate('x'.repeat(500), { ...LONG, ...more, signal: stop.signal }),
    );
    const settled = Promise.allSettled(calls);
    await sleep(60);
    stop.abort();
    await own.close();
    for (const call of await settled) {
      expect(call).toMatchObject({ reason: { code: 'TURNOUT_ABORTED' } });
    }
  });

  it('fails all calls when it dies, and says why', async () => {
    const started = once(process, 'worker') as Promise<[Worker]>;
    const own = await EngineThread.open(BABEL, { backend: 'inline' });
    const [worker] = await started;
    const calls = [own.generate('In the ', LONG), own.snapshot(), own.generate('And ', LONG)];
    const settled = Promise.allSettled(calls);
    await sleep(50);
    // A message that it cannot take, for an error that nobody foresaw.
    worker.postMessage(null);
    const [first, , third] = await settled;
    for (const call of [first, third]) {
      expect(call).toMatchObject({ status: 'rejected', reason: { code: 'TURNOUT_CLOSED' } });
    }
    const why = { code: 'TURNOUT_CLOSED', message: expect.stringMatching(/thread ended: .*null/) };
    expect(await own.ended).toMatchObject(why);
    await expect(own.generate('a')).rejects.toMatchObject({ code: 'TURNOUT_CLOSED' });
    await own.close();
  });
});

/** A process that ends at a moment of its computation; onnxruntime-node would have it abort. */
async function exitWhileComputing(...args: string[]) {
  const program = fileURLToPath(new URL('../support/exit-while-computing.mjs', import.meta.url));
  const child = spawn(process.execPath, [program, BABEL, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
  const [[code, signal], err] = await Promise.all([once(child, 'close'), text(child.stderr)]);
  return { code, signal, err };
}

describe('a process that ends while its engine computes', { timeout: 60_000 }, () => {
  it.each([
    ['inline', 'run', '30'],
    ['inline', 'abort', '30'],
    ['inline', 'abort', '57'],
    ['threads', 'run', '30'],
    ['threads', 'abort', '41'],
  ])('ends as it wanted: %s, %s, after %s ms', async (...args) => {
    expect(await exitWhileComputing(...args)).toEqual({ code: 7, signal: null, err: '' });
  });

  it.each([
    ['inline', 12],
    ['threads', 12],
    ['processes', 2],
  ] as const)('or opens: %s, at %i moments', async (backend, moments) => {
    const started = performance.now();
    await (await EngineThread.open(BABEL, { backend })).close();
    const took = performance.now() - started;
    for (let i = 1; i <= moments; i++) {
      const ended = await exitWhileComputing(backend, 'open', String((took * i) / (moments + 1)));
      expect(ended).toEqual({ code: 7, signal: null, err: '' });
    }
  });
});
