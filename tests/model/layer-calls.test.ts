import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { EngineThread } from '#turnout/model/engine-thread.js';
import { LayerCalls } from '#turnout/model/layer-calls.js';
import { MoeModel } from '#turnout/model/moe-model.js';
import type { LayerEvent, MoeLayer } from '#turnout/moe-layer.js';
import { rowKey, uniform } from '#turnout/router/random.js';
import { type Matrix, matrix } from '#turnout/tensor.js';
import { BABEL } from '../support/babel.js';

const H = 128;

let model: MoeModel;
let engine: EngineThread;
beforeAll(async () => {
  [model, engine] = await Promise.all([
    MoeModel.open(BABEL, { backend: 'inline' }),
    EngineThread.open(BABEL, { backend: 'inline' }),
  ]);
});
afterAll(() => Promise.all([model.close(), engine.close()]));

/** Hidden states [rows, H] that differ by `seed`. */
function hidden(rows: number, seed: number): Matrix {
  const row = rowKey({ seed, request: 0, position: 0, layer: 0, use: 'token' });
  const data = Float32Array.from({ length: rows * H }, (_, i) => 4 * uniform(row, i) - 2);
  return matrix(data, rows, H);
}

const alone = (layer: MoeLayer, x: Matrix) =>
  layer.forward(x, { badRows: 'report', sequences: [{ length: x.rows, request: 0 }] });

/** Rows of each call of a layer from now on. */
function rowsOfCalls(): number[] {
  const rows: number[] = [];
  const listener = (message: unknown) => rows.push((message as LayerEvent).routing.tokens);
  subscribe('turnout:layer', listener);
  onTestFinished(() => void unsubscribe('turnout:layer', listener));
  return rows;
}

/** The error that a promise of the list fails with, or undefined. */
const codes = async (calls: readonly Promise<unknown>[]) =>
  (await Promise.allSettled(calls)).map((call) =>
    call.status === 'rejected' ? call.reason.code : undefined,
  );

describe('calls of one layer', () => {
  it('that come together share a call, and each gets what the layer gives it alone: the same bits', async () => {
    const layer = model.program.layers[1]!;
    const parts = [1, 40, 7, 3].map(hidden);
    const expected = await Promise.all(parts.map((x) => alone(layer, x)));
    const rows = rowsOfCalls();
    const calls = new LayerCalls(layer);
    const none = calls.run({ x: hidden(0, 0) });
    const answers = await Promise.all(parts.map((x) => calls.run({ x })));
    // The first has nobody to wait for.
    expect(rows).toEqual([0, 51]);
    expect((await none).y.rows).toBe(0);
    for (const [i, { y, routing }] of answers.entries()) {
      expect(y).toEqual(expected[i]!.y);
      expect(routing).toEqual(expected[i]!.routing);
    }
  });

  it('compete with nobody for capacity', async () => {
    const layer = model.program.layers[0]!;
    // All rows alike go to the same experts, many more than these may keep of one request.
    const crowd = matrix(new Float32Array(60 * H).fill(0.5), 60, H);
    const own = matrix(crowd.data.slice(0, 4 * H), 4, H);
    const calls = new LayerCalls(layer);
    const [, many, few] = await Promise.all([crowd, crowd, own].map((x) => calls.run({ x })));
    expect(many!.routing.reason.some((reason) => reason !== 0)).toBe(true);
    expect([...few!.routing.reason]).toEqual(new Array(8).fill(0));
  });

  it('end alone where their numbers cannot be used', async () => {
    const calls = new LayerCalls(model.program.layers[0]!);
    const bad = [Number.NaN, Number.POSITIVE_INFINITY, 3e38].map((value, i) => {
      const x = hidden(5, i);
      x.data.fill(value, 2 * H, 3 * H);
      return calls.run({ x });
    });
    const x = hidden(5, 9);
    const good = [calls.run({ x }), calls.run({ x: hidden(6, 8) })];
    const [first, second, third] = await codes(bad);
    expect([first, second]).toEqual(['TURNOUT_INPUT_INVALID', 'TURNOUT_INPUT_INVALID']);
    expect([undefined, 'TURNOUT_LOGITS_INVALID']).toContain(third);
    expect(await codes(good)).toEqual([undefined, undefined]);
    expect((await good[0]!).y).toEqual((await alone(model.program.layers[0]!, x)).y);
  });

  it.each([
    [{ x: matrix(new Float32Array(6), 2, 3) }, 'TURNOUT_SHAPE_MISMATCH'],
    [{ x: hidden(2, 0), logits: matrix(new Float32Array(14), 2, 7) }, 'TURNOUT_SHAPE_MISMATCH'],
    [{ x: hidden(2, 0), logits: matrix(new Float32Array(24), 3, 8) }, 'TURNOUT_SHAPE_MISMATCH'],
    [
      { x: hidden(1, 0), logits: matrix(new Float32Array(8).fill(Number.NaN), 1, 8) },
      'TURNOUT_LOGITS_INVALID',
    ],
  ])('refuse shapes and logits that do not fit: case %#', async (request, code) => {
    const calls = new LayerCalls(model.program.layers[0]!);
    await expect(calls.run(request)).rejects.toMatchObject({ code });
  });

  it('leave out those whose callers are gone', async () => {
    const calls = new LayerCalls(model.program.layers[0]!);
    const rows = rowsOfCalls();
    const stop = new AbortController();
    const first = calls.run({ x: hidden(2, 0) });
    const gone = calls.run({ x: hidden(30, 1), signal: stop.signal });
    const last = calls.run({ x: hidden(3, 2) });
    stop.abort();
    expect(await codes([first, gone, last])).toEqual([undefined, 'TURNOUT_ABORTED', undefined]);
    expect(rows).toEqual([2, 3]);
  });

  it('stay apart above a thousand rows, and under a rule whose requests would compete', async () => {
    const calls = new LayerCalls(model.program.layers[0]!);
    const rows = rowsOfCalls();
    await Promise.all([1, 600, 500, 2000, 5].map((n) => calls.run({ x: hidden(n, n) })));
    expect(rows).toEqual([1, 600, 500, 2000, 5]);

    const router = { options: { admit: { scope: 'call' } } } as const;
    const competing = await MoeModel.open(BABEL, { backend: 'inline', router });
    onTestFinished(() => competing.close());
    const apart = new LayerCalls(competing.program.layers[0]!);
    rows.length = 0;
    await Promise.all([2, 3, 4].map((n) => apart.run({ x: hidden(n, n) })));
    expect(rows).toEqual([2, 3, 4]);
  });
});

describe('calls of one layer through the engine in a thread', () => {
  it('give the same bits in any company, while it generates', async () => {
    const generation = engine.generate('In the ', { maxTokens: 30, temperature: 0 });
    const parts = Array.from({ length: 24 }, (_, i) => hidden(1 + (i % 9), i));
    const answers = await Promise.all(parts.map((x, i) => engine.layer(i % 4, { x })));
    for (const [i, { y, routing }] of answers.entries()) {
      const expected = await alone(model.program.layers[i % 4]!, parts[i]!);
      expect(y.data).toEqual(expected.y.data);
      expect(routing.expert).toEqual(expected.routing.expert);
    }
    await generation;
  });

  it('end alone with NaN, at once where aborted, and late where time is up', async () => {
    const x = hidden(900, 1);
    const nan = matrix(new Float32Array(H).fill(Number.NaN), 1, H);
    const stop = new AbortController();
    const calls = [
      engine.layer(0, { x }),
      engine.layer(0, { x: nan }),
      engine.layer(0, { x }, { signal: stop.signal }),
      engine.layer(0, { x }, { timeoutMs: 1 }),
      engine.layer(0, { x }),
    ];
    stop.abort();
    expect(await codes(calls)).toEqual([
      undefined,
      'TURNOUT_INPUT_INVALID',
      'TURNOUT_ABORTED',
      'TURNOUT_DEADLINE_EXCEEDED',
      undefined,
    ]);
  });
});
