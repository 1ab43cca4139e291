import { createHash } from 'node:crypto';
import { cpSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MoeModel } from '#turnout/model/moe-model.js';
import { openMoeLayer } from '#turnout/model/open.js';
import { encodeBytes } from '#turnout/model/tokenizer.js';
import { layerExperts } from '#turnout/model/update.js';
import { BABEL, copyOfBabel, rewrite, temporaryFolder } from '../support/babel.js';
import { normals, temporaryExperts } from '../support/experts.js';

const PROCESSES = { backend: 'processes', devices: ['cpu', 'cpu'], oneProcessPer: 'device' } as const;
const PROMPT = 'In the beginning was the Word';
const feed = {
  input_ids: {
    type: 'int64' as const,
    dims: [PROMPT.length + 1],
    data: BigInt64Array.from([256, ...encodeBytes(PROMPT)], BigInt),
  },
};

const sum = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex');
const logits = async (model: MoeModel) => (await model.run(feed)).logits!.data as Float32Array;

/** The weights, or those of them that lie in this file, times a factor. */
function scaled(data: Buffer, factor: number): Buffer {
  const weights = new Float32Array(data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength));
  return Buffer.from(weights.map((weight) => weight * factor).buffer);
}

/** A copy of babel where an expert's weights are scaled, as a fresh model computes it -> its logits. */
async function freshLogits(file: string, factor: number): Promise<Float32Array> {
  const folder = copyOfBabel();
  rewrite(folder, `${file}.bin`, (data) => scaled(data, factor));
  await using model = await MoeModel.open(folder, { backend: 'inline' });
  return await logits(model);
}

/** Writes the expert `file` of babel with scaled weights into a folder of its own -> what `update` takes. */
function newVersion(file: string, factor: number) {
  const folder = join(temporaryFolder(), 'v2');
  mkdirSync(folder);
  const [path, data] = [join(folder, 'expert.onnx'), join(folder, `${file.split('/')[1]}.bin`)];
  cpSync(join(BABEL, `${file}.onnx`), path);
  writeFileSync(data, scaled(readFileSync(join(BABEL, `${file}.bin`)), factor));
  return { path, sha256: sum(path), data: [{ path: data, sha256: sum(data) }] };
}

/** The expert of layer 0 that takes most tokens of the prompt: its numbers are seen in the logits. */
async function busiest(model: MoeModel): Promise<{ expert: number; file: string }> {
  const [layer] = (await model.trace(feed)).routing[0]!;
  const counts = new Array<number>(8).fill(0);
  for (const expert of layer!.expert) counts[expert]!++;
  const expert = counts.indexOf(Math.max(...counts));
  return { expert, file: `layer-00/expert-00${expert}` };
}

/** Four generations that run while `change` is applied; all come to their end. */
async function duringGenerations(model: MoeModel, change: () => Promise<void>): Promise<void> {
  const running = [0, 1, 2, 3].map((seed) => model.generate('And ', { maxTokens: 300, seed }));
  const results = Promise.all(running.map((generation) => generation.result()));
  // Begun, not ended: the first piece has come.
  for await (const _ of model.generate('x', { maxTokens: 2 })) break;
  await change();
  expect(model.engine.size).toBeGreaterThan(0);
  for (const { tokens, reason } of await results)
    if (reason !== 'end-token') expect(tokens).toHaveLength(300);
}

describe('MoeModel.update', { timeout: 60_000 }, () => {
  it('takes a new version of an expert while generations go on', async () => {
    await using model = await MoeModel.open(BABEL, PROCESSES);
    const { expert, file } = await busiest(model);
    const before = await logits(model);
    await using inline = await MoeModel.open(BABEL, { backend: 'inline' });
    expect(before).toEqual(await logits(inline));
    const version = newVersion(file, 1.5);
    await duringGenerations(model, () => model.update({ experts: [{ layer: 0, expert, ...version }] }));
    const after = await logits(model);
    expect(after).toEqual(await freshLogits(file, 1.5));
    expect(after).not.toEqual(before);
    // A restarted process opens the new one too.
    for (const { process: own } of model.backend.lanes()) process.kill(own!.pid!, 'SIGKILL');
    expect(await logits(model)).toEqual(after);
  });

  it('takes one that was renamed over the files of the old', async () => {
    const folder = copyOfBabel();
    await using model = await MoeModel.open(folder, PROCESSES);
    const { expert, file } = await busiest(model);
    const [path, data] = [join(folder, `${file}.onnx`), join(folder, `${file}.bin`)];
    writeFileSync(`${data}.new`, scaled(readFileSync(data), 0.5));
    renameSync(`${data}.new`, data);
    const version = { path, sha256: sum(path), data: [{ path: data, sha256: sum(data) }] };
    await duringGenerations(model, () => model.update({ experts: [{ layer: 0, expert, ...version }] }));
    expect(await logits(model)).toEqual(await freshLogits(file, 0.5));
  });

  it('moves experts while generations go on, and keeps the numbers', async () => {
    await using model = await MoeModel.open(BABEL, PROCESSES);
    const before = await logits(model);
    const all = Array.from({ length: 32 }, (_, e) => e);
    const placement = [
      { device: 'cpu', experts: all },
      { device: 'cpu', experts: all.slice(0, 16) },
      { device: 'cpu', experts: all.slice(16) },
    ];
    await duringGenerations(model, () => model.update({ placement }));
    const lanes = model.backend.lanes().map(({ device, experts }) => ({ device, experts: [...experts] }));
    expect(lanes).toEqual(placement);
    expect(await logits(model)).toEqual(before);
  });
});

describe('MoeModel.update refuses', { timeout: 60_000 }, () => {
  let model: MoeModel;
  beforeAll(async () => {
    model = await MoeModel.open(BABEL, { ...PROCESSES, devices: ['cpu'] });
  });
  afterAll(() => model.close());

  const refused = (code: string, message: RegExp) => ({ code, message: expect.stringMatching(message) });

  it('files with another checksum, and goes on with the old version', async () => {
    const before = await logits(model);
    const good = newVersion('layer-00/expert-000', 1.5);
    const wrong = '0'.repeat(64);
    for (const version of [
      { ...good, sha256: wrong },
      { ...good, data: [{ ...good.data[0]!, sha256: wrong }] },
    ]) {
      await expect(model.update({ experts: [{ layer: 0, expert: 0, ...version }] })).rejects.toMatchObject(
        refused('TURNOUT_EXPERT_CHANGED', /expected sha256 0{64}, got [0-9a-f]{64}$/),
      );
    }
    expect(await logits(model)).toEqual(before);
  });

  it('weights that nobody sums, and sums of what is no weight', async () => {
    const { data, ...good } = newVersion('layer-00/expert-000', 1.5);
    const update = (files: object) =>
      model.update({ experts: [{ layer: 0, expert: 0, ...good, ...files } as never] });
    for (const files of [{}, { data: [] }, { data: [{ ...data[0]!, path: good.path }] }]) {
      await expect(update(files)).rejects.toMatchObject(
        refused('TURNOUT_OPTIONS_INVALID', /^experts\[0\]\.data: expected .*expert-000\.bin, which .* reads/),
      );
    }
    await expect(update({ data: [...data, { path: good.path, sha256: good.sha256 }] })).rejects.toMatchObject(
      refused('TURNOUT_OPTIONS_INVALID', /^experts\[0\]\.data: .*expert\.onnx is not read by/),
    );
  });

  it.each([
    [{ layer: 4, expert: 0 }, /^experts\[0\]\.layer: expected 0 to 3, got 4$/],
    [{ expert: 0 }, /^experts\[0\]\.layer: expected 0 to 3, got undefined$/],
    [{ layer: 0, expert: 8 }, /^experts\[0\]\.expert: expected 0 to 7, got 8$/],
    [{ layer: 0, expert: 0.5 }, /got 0\.5$/],
    [{ layer: 0, shared: 0 }, /^experts\[0\]\.shared: expected none in this layer, got 0$/],
    [{ layer: 0 }, /either expert or shared, got none$/],
    [{ layer: 0, expert: 0, shared: 0 }, /either expert or shared, got both$/],
  ])('%j', async (place, message) => {
    const files = { path: 'none', sha256: '' };
    await expect(model.update({ experts: [{ ...place, ...files } as never] })).rejects.toMatchObject(
      refused('TURNOUT_OPTIONS_INVALID', message),
    );
  });

  it('an expert twice', async () => {
    const version = { layer: 0, expert: 0, ...newVersion('layer-00/expert-000', 1) };
    await expect(model.update({ experts: [version, version] })).rejects.toMatchObject(
      refused('TURNOUT_OPTIONS_INVALID', /^experts\[1\]: named twice/),
    );
  });

  it('a placement without some expert, and a file that is not there', async () => {
    const placement = [{ device: 'cpu', experts: [0] }];
    await expect(model.update({ placement })).rejects.toMatchObject(
      refused('TURNOUT_OPTIONS_INVALID', /expert 1$/),
    );
    const absent = { layer: 0, expert: 0, path: '/nowhere.onnx', sha256: '0'.repeat(64) };
    await expect(model.update({ experts: [absent] })).rejects.toMatchObject(
      refused('TURNOUT_FILE_MISSING', /nowhere/),
    );
  });

  it('other backends, and closed models', async () => {
    const inline = await MoeModel.open(BABEL, { backend: 'inline' });
    await expect(inline.update({})).rejects.toMatchObject(
      refused('TURNOUT_OPTIONS_INVALID', /expected the backend processes, got inline/),
    );
    await inline.close();
    await expect(inline.update({})).rejects.toMatchObject({ code: 'TURNOUT_CLOSED' });
  });
});

describe('layerExperts', () => {
  it('counts the routed experts of a layer, then its shared ones, then the next layer', () => {
    const layers = [{ experts: ['a', 'b'], shared: ['c'] }, { experts: ['d'] }, { experts: ['e', 'f'] }];
    expect(layerExperts({ layers } as never)).toEqual([
      { first: 0, experts: 2, shared: 1 },
      { first: 3, experts: 1, shared: 0 },
      { first: 4, experts: 2, shared: 0 },
    ]);
  });
});

describe('OpenLayer.update', { timeout: 60_000 }, () => {
  it('numbers routed and shared experts, and gives the numbers of a fresh layer', async () => {
    const sizes = { hidden: 16, inner: 32, activation: 'relu' } as const;
    const old = await temporaryExperts({ ...sizes, experts: 5 });
    const fresh = await temporaryExperts({ ...sizes, experts: 5, seed: 2 });
    const source = (files: readonly string[]) => ({
      gate: old.gateFile,
      experts: files.slice(0, 4),
      shared: files.slice(4),
      router: { preset: 'mixtral' },
    });
    const paths = (set: typeof old) => set.files.map(({ path }) => path);
    const version = (e: number) => {
      const path = paths(fresh)[e]!;
      const data = path.replace('.onnx', '.bin');
      return { path, sha256: sum(path), data: [{ path: data, sha256: sum(data) }] };
    };
    const random = normals(5);
    const x = { rows: 12, cols: 16, data: Float32Array.from({ length: 12 * 16 }, random) };

    const gateFile = (await temporaryExperts({ ...sizes, experts: 4 })).gateFile;
    await using layer = await openMoeLayer({ ...source(paths(old)), gate: gateFile }, PROCESSES);
    const mixed = paths(old).map((path, e) => (e === 2 || e === 4 ? paths(fresh)[e]! : path));
    await using other = await openMoeLayer({ ...source(mixed), gate: gateFile }, { backend: 'inline' });
    const before = (await layer.forward(x)).y.data;
    await layer.update({
      experts: [
        { expert: 2, ...version(2) },
        { shared: 0, ...version(4) },
      ],
      placement: [{ device: 'cpu', experts: [4, 3, 2, 1, 0] }],
    });
    expect(layer.backend.lanes()).toHaveLength(1);
    const after = (await layer.forward(x)).y.data;
    expect(after).toEqual((await other.forward(x)).y.data);
    expect(after).not.toEqual(before);
    await expect(layer.update({ experts: [{ shared: 1, ...version(4) }] })).rejects.toMatchObject({
      code: 'TURNOUT_OPTIONS_INVALID',
      message: expect.stringMatching(/^experts\[0\]\.shared: expected 0 to 0, got 1$/),
    });
    await Promise.all([old.remove(), fresh.remove()]);
  });
});
