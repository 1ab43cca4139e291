import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ExpertBackend } from '#turnout/experts/backend.js';
import { openInline } from '#turnout/experts/inline.js';
import { openMoeLayer } from '#turnout/model/open.js';
import { type LayerEvent, MoeLayer } from '#turnout/moe-layer.js';
import { createRouter } from '#turnout/router/create.js';
import { LoadTracker } from '#turnout/router/load-tracker.js';
import { parseOptions } from '#turnout/router/options.js';
import { planDispatch } from '#turnout/router/plan.js';
import { presetOptions } from '#turnout/router/presets.js';
import { type Matrix, matrix, row } from '#turnout/tensor.js';
import { type Layer, referenceMoe } from './reference/moe.js';
import { BABEL } from './support/babel.js';
import { normals, referenceExpert, type TemporaryExperts, temporaryExperts } from './support/experts.js';
import { withoutExperts } from './support/losing.js';

const E = 4;
const H = 8;
let set: TemporaryExperts;
let backend: ExpertBackend;

beforeAll(async () => {
  set = await temporaryExperts({ experts: E, hidden: H, inner: 16, activation: 'swiglu' });
  backend = await openInline(set.files);
});
afterAll(async () => {
  await backend.close();
  await set.remove();
});

function hiddenStates(T: number, seed = 3): Matrix {
  const random = normals(seed);
  return matrix(Float32Array.from({ length: T * H }, random), T, H);
}

/** x [T,H] -> logits [T,E] by plain loops. */
function gateOf(x: Matrix): Float64Array {
  return Float64Array.from({ length: x.rows * E }, (_, i) => {
    let sum = 0;
    for (let h = 0; h < H; h++) sum += x.data[Math.floor(i / E) * H + h]! * set.gate[h * E + (i % E)]!;
    return sum;
  });
}

/** Mixtral's rule, token by token: the two largest logits, softmax over them, weighted sum of the experts. */
function mixtral(x: Matrix): number[] {
  const logits = gateOf(x);
  return Array.from({ length: x.rows }, (_, t) => {
    const own = [...logits.subarray(t * E, (t + 1) * E)];
    const [first, second] = [...own.keys()].sort((a, b) => own[b]! - own[a]!);
    const share = 1 / (1 + Math.exp(own[second!]! - own[first!]!));
    const input = x.data.slice(t * H, (t + 1) * H);
    const [y1, y2] = [referenceExpert(set, first!, input), referenceExpert(set, second!, input)];
    return [...y1.map((value, h) => share * value + (1 - share) * y2[h]!)];
  }).flat();
}

const close = (got: Float32Array, expected: readonly number[]) => {
  expect(got.length).toBe(expected.length);
  expected.forEach((value, i) => {
    expect(Math.abs(got[i]! - value)).toBeLessThan(1e-4);
  });
};

const mixtralRouter = (experts = E) => createRouter(presetOptions('mixtral'), experts);

describe('MoeLayer', () => {
  it.each([
    ['inline', {}],
    ['threads', { lanes: 2 }],
    ['processes', { devices: ['cpu', 'cpu'] }],
  ] as const)('is the naive loop, with %s', async (backend, options) => {
    const files = {
      gate: set.gateFile,
      experts: set.files.map((file) => file.path),
      router: { preset: 'mixtral' },
    };
    await using layer = await openMoeLayer(files, { backend, ...options });
    for (const T of [0, 1, 2, 65]) {
      const x = hiddenStates(T, T);
      const { y, routing } = await layer.forward(x);
      close(y.data, mixtral(x));
      expect(routing.token.length).toBe(2 * T);
    }
  });

  it('opens a layer of a package, with options over its rule', async () => {
    await using layer = await openMoeLayer({
      package: BABEL,
      layer: 2,
      router: { options: { select: { k: 1 } } },
    });
    const { y, routing } = await layer.forward(matrix(new Float32Array(3 * 128).fill(0.1), 3, 128));
    expect([y.rows, y.cols, routing.choices, layer.name]).toEqual([3, 128, 1, 'layers.2']);
    await expect(openMoeLayer({ package: BABEL, layer: 4 })).rejects.toMatchObject({
      code: 'TURNOUT_OPTIONS_INVALID',
    });
  });

  it('takes logits instead of asking a gate', async () => {
    const layer = new MoeLayer({ name: 'own', index: 0, router: mixtralRouter(), backend });
    const x = hiddenStates(5);
    const logits = matrix(Float32Array.from(gateOf(x)), 5, E);
    close((await layer.forward(x, { logits })).y.data, mixtral(x));
    await expect(layer.forward(x)).rejects.toMatchObject({ code: 'TURNOUT_INPUT_INVALID' });
  });

  it('adds shared experts to every token', async () => {
    const router = createRouter(presetOptions('switch', { admit: 'none' }), 2);
    const layer = new MoeLayer({ name: 'shared', index: 0, router, backend, firstExpert: 1, shared: [3, 0] });
    const x = hiddenStates(3);
    const logits = matrix(Float32Array.from([9, -9, -9, 9, 9, -9]), 3, 2);
    const expected = [1, 2, 1].flatMap((expert, t) => {
      const row = x.data.slice(t * H, (t + 1) * H);
      const [own, a, b] = [expert, 3, 0].map((e) => referenceExpert(set, e, row));
      const weight = 1 / (1 + Math.exp(-18));
      return [...own!.map((value, h) => weight * value + a![h]! + b![h]!)];
    });
    close((await layer.forward(x, { logits })).y.data, expected);
  });

  it('multiplies the input where the rule says so', async () => {
    const router = createRouter(presetOptions('llama-4'), E);
    const layer = new MoeLayer({ name: 'llama', index: 0, router, backend });
    const x = hiddenStates(1);
    const { y } = await layer.forward(x, { logits: matrix(Float32Array.of(0, 2, 1, -1), 1, E) });
    const scale = 1 / (1 + Math.exp(-2));
    close(y.data, [
      ...referenceExpert(
        set,
        1,
        x.data.map((value) => value * scale),
      ),
    ]);
  });

  it('gives zero, the input or a constant without any expert', async () => {
    const zeroComputation = { zero: 1, copy: 1, constant: 1 };
    const router = createRouter({ ...presetOptions('switch', { admit: 'none' }), zeroComputation }, E + 3);
    const constants = matrix(
      Float32Array.from({ length: H }, (_, h) => h),
      1,
      H,
    );
    const layer = new MoeLayer({ name: 'zero', index: 0, router, backend, constants });
    const x = hiddenStates(3);
    const logits = matrix(new Float32Array(3 * (E + 3)), 3, E + 3);
    for (let t = 0; t < 3; t++) logits.data[t * (E + 3) + E + t] = 50;
    const { y } = await layer.forward(x, { logits });
    close(y.data, [...new Array(H).fill(0), ...x.data.slice(H, 2 * H), ...constants.data]);
    expect(() => new MoeLayer({ name: 'zero', index: 0, router, backend })).toThrow(
      expect.objectContaining({ code: 'TURNOUT_SHAPE_MISMATCH' }),
    );
  });

  it('leaves a token whose choices were dropped at zero', async () => {
    const options = presetOptions('switch', { admit: { formula: 'fixed', capacity: 1, scope: 'request' } });
    const layer = new MoeLayer({ name: 'full', index: 0, router: createRouter(options, E), backend });
    const x = hiddenStates(2);
    const { y, plan } = await layer.forward(x, {
      logits: matrix(Float32Array.of(5, 0, 0, 0, 5, 0, 0, 0), 2, E),
    });
    expect(y.data.slice(0, H).some((value) => value !== 0)).toBe(true);
    expect([...y.data.slice(H)]).toEqual(new Array(H).fill(0));
    expect(plan.dropped).toEqual([{ token: 1, choice: 0, expert: 0, reason: 'capacity' }]);
  });

  it('throws for a bad row, or reports it and routes the others', async () => {
    const layer = new MoeLayer({ name: 'bad', index: 0, router: mixtralRouter(), backend });
    const x = hiddenStates(2);
    const logits = matrix(Float32Array.of(0, Number.NaN, 1, 2, 3, 2, 1, 0), 2, E);
    await expect(layer.forward(x, { logits })).rejects.toMatchObject({
      code: 'TURNOUT_LOGITS_INVALID',
      details: { row: 0, column: 1 },
    });
    const { y, routing } = await layer.forward(x, { logits, badRows: 'report' });
    expect(routing.badRows).toEqual([{ row: 0, problem: 'nan', column: 1 }]);
    expect([...routing.token]).toEqual([1, 1]);
    expect([...y.data.slice(0, H)]).toEqual(new Array(H).fill(0));
  });

  it('writes y where it is told to', async () => {
    await using layer = await openMoeLayer(
      { gate: set.gateFile, experts: set.files.map(({ path }) => path), router: { preset: 'mixtral' } },
      { backend: 'inline' },
    );
    const [first, second] = [hiddenStates(6), hiddenStates(6, 4)];
    const into = matrix(new Float32Array(6 * H).fill(99), 6, H);
    expect((await layer.forward(first, { into })).y).toBe(into);
    close(into.data, mixtral(first));
    await layer.forward(second, { into });
    close(into.data, mixtral(second));
    for (const other of [matrix(new Float32Array(5 * H), 5, H), first])
      await expect(layer.forward(first, { into: other })).rejects.toMatchObject({
        code: 'TURNOUT_SHAPE_MISMATCH',
        message: expect.stringContaining('into'),
      });
  });

  it('refuses hidden states of another size, and an aborted call', async () => {
    const layer = new MoeLayer({ name: 'strict', index: 0, router: mixtralRouter(), backend });
    const wrong = matrix(new Float32Array(6), 2, 3);
    await expect(layer.forward(wrong)).rejects.toMatchObject({
      code: 'TURNOUT_SHAPE_MISMATCH',
      details: { expected: H, got: 3 },
    });
    const call = { logits: matrix(new Float32Array(E), 1, E), signal: AbortSignal.abort() };
    await expect(layer.forward(hiddenStates(1), call)).rejects.toMatchObject({ code: 'TURNOUT_ABORTED' });
  });

  it('refuses a gate that does not fit its experts, and closes what it had opened', async () => {
    const paths = set.files.map((file) => file.path);
    const source = { gate: set.gateFile, experts: paths.slice(1), router: { preset: 'mixtral' } };
    await expect(openMoeLayer(source, { backend: 'inline' })).rejects.toMatchObject({
      code: 'TURNOUT_SHAPE_MISMATCH',
    });
    await expect(openMoeLayer({ ...source, router: { preset: 'nothing' } })).rejects.toMatchObject({
      code: 'TURNOUT_PRESET_UNKNOWN',
    });
    await expect(openMoeLayer({ ...source, gate: '/nowhere.onnx', experts: paths })).rejects.toMatchObject({
      code: 'TURNOUT_FILE_MISSING',
    });
  });

  it('tells observers of each call, and how long each stage took', async () => {
    const layer = new MoeLayer({ name: 'seen', index: 7, router: mixtralRouter(), backend });
    const seen: LayerEvent[] = [];
    const observer = (message: unknown) => seen.push(message as LayerEvent);
    subscribe('turnout:layer', observer);
    const call = { logits: matrix(Float32Array.of(1, 2, 3, 4), 1, E) };
    const { routing, times } = await layer.forward(hiddenStates(1), call);
    unsubscribe('turnout:layer', observer);
    await layer.forward(hiddenStates(1), call);
    expect(seen).toEqual([{ layer: 7, name: 'seen', router: layer.router, routing, times }]);
    expect(Object.keys(times)).toEqual([
      'gateMs',
      'routeMs',
      'dispatchMs',
      'transportMs',
      'computeMs',
      'combineMs',
    ]);
    expect(times.computeMs).toBeGreaterThan(0);
  });
});

describe('MoeLayer without experts that its backend lost', () => {
  const token = (E: number, more: object = {}) =>
    createRouter(
      parseOptions({
        algorithm: 'token-choice',
        score: { function: 'softmax' },
        select: { k: 2 },
        weigh: { by: 'normalised' },
        ...more,
      }),
      E,
    );
  const rowsOf = (m: Matrix) => Array.from({ length: m.rows }, (_, r) => [...row(m, r)]);
  const expert = (e: number) => (x: readonly number[]) => [...referenceExpert(set, e, Float32Array.from(x))];
  const rule = (experts: Layer['experts'], lost: readonly number[]) =>
    ({ score: 'softmax', k: 2, normalise: true, experts, lost }) as const;
  /** Logits of T tokens that like the first experts best. */
  const skewed = (T: number, cols: number) => {
    const random = normals(17);
    return matrix(
      Float32Array.from({ length: T * cols }, (_, i) => random() - (i % cols) / 2),
      T,
      cols,
    );
  };
  const all = () => set.files.map((_, e) => expert(e));

  it.each([[[0]], [[1, 3]], [[0, 1, 2]], [[0, 1, 2, 3]], [[]]])(
    'is the naive loop without %j',
    async (lost) => {
      const layer = new MoeLayer({
        name: 'lossy',
        index: 0,
        router: token(E),
        backend: withoutExperts(backend, lost),
      });
      const [x, logits] = [hiddenStates(33), skewed(33, E)];
      const { y, routing, plan } = await layer.forward(x, { logits });
      const expected = referenceMoe(rule(all(), lost), rowsOf(x), rowsOf(logits), [33]);
      close(y.data, expected.y.flat());
      expect(plan.tokenIds.length).toBe(expected.kept.flat().length);
      expect(plan).toEqual(planDispatch(routing));
      expect(new Set(plan.dropped.map((drop) => drop.expert))).toEqual(new Set(lost));
      expect(plan.dropped.every(({ reason }) => reason === 'lost')).toBe(true);
    },
  );

  it('tells capacity drops from lost ones, and finds the experts of a layer deep in the backend', async () => {
    const capacity = { formula: 'fixed', capacity: 5, scope: 'request' };
    const router = token(3, { admit: capacity });
    const layer = new MoeLayer({
      ...{ name: 'deep', index: 0, router, firstExpert: 1 },
      backend: withoutExperts(backend, [2]),
    });
    const [x, logits] = [hiddenStates(12), skewed(12, 3)];
    const { y, routing, plan } = await layer.forward(x, { logits });
    const own = { ...rule([expert(1), expert(2), expert(3)], [1]), capacity: () => 5 };
    close(y.data, referenceMoe(own, rowsOf(x), rowsOf(logits), [12]).y.flat());
    expect(new Set(plan.dropped.map(({ reason }) => reason))).toEqual(new Set(['capacity', 'lost']));
    expect(plan.dropped.filter(({ reason }) => reason === 'lost')).toHaveLength(5);
    expect([...routing.states[0]!.kept]).toEqual([...router.route({ logits }).states[0]!.kept]);
  });

  it('still has the experts that cost nothing, with the weight of those that are gone', async () => {
    const router = token(E + 1, { zeroComputation: { copy: 1 } });
    const layer = new MoeLayer({
      ...{ name: 'copy', index: 0, router },
      backend: withoutExperts(backend, [0, 1, 2, 3]),
    });
    const x = hiddenStates(2);
    const logits = matrix(Float32Array.of(3, 0, 0, 0, 2, 3, 2, 0, 0, 0), 2, E + 1);
    const { y } = await layer.forward(x, { logits });
    close(y.data, [...row(x, 0), ...new Array(H).fill(0)]);
  });

  it('adds the others as they were where weights are on the input', async () => {
    const router = token(E, { weigh: { by: 'normalised', on: 'input' } });
    const layer = new MoeLayer({ name: 'input', index: 0, router, backend: withoutExperts(backend, [0]) });
    const x = hiddenStates(1);
    const { y, routing } = await layer.forward(x, { logits: matrix(Float32Array.of(1, 1, 0, 0), 1, E) });
    close(y.data, expert(1)([...x.data].map((value) => value / 2)));
    expect([...routing.weight]).toEqual([0, 0.5]);
  });

  it('cannot do without a shared expert', async () => {
    const parts = { name: 'base', index: 5, router: token(2), shared: [3, 2] };
    const layer = (gone: number[]) => new MoeLayer({ ...parts, backend: withoutExperts(backend, gone) });
    const [x, logits] = [hiddenStates(3), skewed(3, 2)];
    for (const gone of [[2], [0, 3]]) {
      await expect(layer(gone).forward(x, { logits })).rejects.toMatchObject({
        code: 'TURNOUT_EXPERT_LOST',
        message: expect.stringContaining('base'),
        details: { layer: 5, expert: gone.at(-1) },
      });
    }
    const { y } = await layer([0, 1]).forward(x, { logits });
    const expected = rowsOf(x).flatMap((own) => expert(3)(own).map((v, h) => v + expert(2)(own)[h]!));
    close(y.data, expected);
    expect((await layer([2]).forward(hiddenStates(0), { logits: skewed(0, 2) })).y.rows).toBe(0);
  });

  it('tells observers what was lost', async () => {
    const layer = new MoeLayer({
      name: 'seen',
      index: 4,
      router: token(E),
      backend: withoutExperts(backend, [0]),
    });
    const tracker = new LoadTracker();
    subscribe('turnout:layer', tracker.record);
    const logits = matrix(Float32Array.of(2, 1, 0, 0, 0, 1, 2, 0), 2, E);
    await layer.forward(hiddenStates(2), { logits });
    unsubscribe('turnout:layer', tracker.record);
    expect(tracker.snapshot().get(4)).toMatchObject({
      load: [1, 2, 1, 0],
      kept: [0, 2, 1, 0],
      dropped: { lost: 1, capacity: 0 },
      dropRate: 0.25,
    });
  });
});
