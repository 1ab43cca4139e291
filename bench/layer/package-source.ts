import { join } from 'node:path';
import { TurnoutError } from '../../src/errors.js';
import { layerOptions, routerOver } from '../../src/model/layer-router.js';
import type { LayerEntry } from '../../src/model/manifest.js';
import { readOnnxFile } from '../../src/model/onnx.js';
import { expertPaths } from '../../src/model/open.js';
import { type Package, readPackage, verifyPackage } from '../../src/model/package.js';
import { choicesOf, type RouterOptions, withShortcuts, zeroComputationOf } from '../../src/router/options.js';
import { type ExpertSet, writeExperts } from '../support/experts.js';
import { normals } from '../support/weights.js';
import { knownExpert, knownGate } from './known-form.js';
import type { LayerShape } from './shapes.js';
import { type LayerSource, writeGates } from './source.js';

/** A layer of a package that has been checked. */
export interface PackageLayer {
  readonly pkg: Package;
  readonly layer: LayerEntry;
  /** Its rule without capacity: all rows are computed, as rivals do. */
  readonly options: RouterOptions;
  readonly shape: LayerShape;
}

/** Throws TURNOUT_PACKAGE_*, and TURNOUT_OPTIONS_INVALID for a layer that is not there or has experts without computation. */
export async function readLayer(folder: string, index: number): Promise<PackageLayer> {
  const pkg = await readPackage(folder);
  await verifyPackage(pkg);
  const { layers, sizes, name } = pkg.manifest;
  const layer = layers[index];
  if (!layer) throw invalid(`--layer: expected 0 to ${layers.length - 1}, got ${index}`, { layer: index });
  const options = withShortcuts(layerOptions(layer), { capacityFactor: 'none' });
  if (Object.keys(zeroComputationOf(options)).length > 0)
    throw invalid(
      `--layer ${index}: its rule has experts without computation, which are no load to measure`,
      {},
    );
  const paths = expertPaths(pkg, layer);
  const expert = knownExpert(paths[0]!);
  const shape: LayerShape = {
    name: `${name}, layer ${index}`,
    experts: layer.experts.length,
    k: choicesOf(options, layer.experts.length),
    hidden: sizes.hidden,
    inner: sizes.inner,
    activation: expert?.activation ?? 'swiglu',
    dtype: await dtypeOf(paths[0]!),
  };
  return { pkg, layer, options, shape };
}

async function dtypeOf(path: string): Promise<LayerShape['dtype']> {
  const { initializers } = await readOnnxFile(path);
  return initializers.some(({ dtype }) => dtype === 'uint8' || dtype === 'uint4' || dtype === 'int4')
    ? 'int4'
    : 'float32';
}

/** The layer with its own experts; `folder` takes gates, and the weights in the form that rivals read. */
export async function openPackageSource(
  folder: string,
  { pkg, layer, options, shape }: PackageLayer,
  seed: number,
): Promise<LayerSource> {
  const notes: string[] = [];
  const paths = expertPaths(pkg, layer);
  const random = normals(seed);
  const drawn = () =>
    Float32Array.from({ length: shape.hidden * shape.experts }, () => random() / Math.sqrt(shape.hidden));
  const gate =
    layer.gate && 'model' in layer.gate ? knownGate(join(pkg.folder, layer.gate.model)) : undefined;
  if (!gate) notes.push('its gate is no single product: a random one of the same size takes its place');
  if (layer.shared?.length) notes.push('its shared experts are left out');
  const matrix = gate ?? drawn();
  const gates = await writeGates(folder, { ...shape, gate: matrix }, shape, seed);
  const router = routerOver(options, layer.experts.length);
  const common = { shape, files: paths.map((path) => ({ path })), router, gates, notes };
  const set = isFusedRule(options) ? await rivalSet(join(folder, 'rivals'), shape, paths, matrix) : undefined;
  return set ? { ...common, set } : common;
}

/** The same weights in files of the form that rivals read; undefined where the form of some expert is not known. */
async function rivalSet(
  folder: string,
  shape: LayerShape,
  paths: readonly string[],
  gate: Float32Array,
): Promise<ExpertSet | undefined> {
  const known = paths.map(knownExpert);
  if (
    known.some((expert) => !expert || expert.activation !== shape.activation || expert.inner !== shape.inner)
  )
    return undefined;
  return writeExperts(folder, shape, { gate, weightsOf: (e) => known[e]!.weights() });
}

/** Whether it decides as the fused operators do: softmax, the k best, weights divided by the sum of the chosen. */
function isFusedRule(options: RouterOptions): boolean {
  if (options.algorithm !== 'token-choice') return false;
  const { score, select, weigh } = options;
  const plain = score.function === 'softmax' && !score.bias && !score.noise && !select.groups;
  const all = (select.later?.rule ?? 'always') === 'always';
  return plain && all && weigh.by !== 'score' && weigh.scale === undefined && weigh.on !== 'input';
}

function invalid(message: string, details: Record<string, unknown>): TurnoutError {
  return new TurnoutError('TURNOUT_OPTIONS_INVALID', message, details);
}
