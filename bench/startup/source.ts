import { stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { readOnnxFile } from '../../src/model/onnx.js';
import { expertPaths, segmentPaths, sharedPaths } from '../../src/model/open.js';
import { readPackage } from '../../src/model/package.js';
import { knownExpert } from '../layer/known-form.js';
import { type LayerShape, shapeBytes, shapeText } from '../layer/shapes.js';
import type { Stacked } from '../peers/fused-weights.js';
import { makeExperts } from '../support/experts.js';
import { type FusedFiles, writeFused } from './fused.js';
import type { StartupSettings } from './settings.js';
import { writeSparseExperts, writeSparseFused } from './sparse.js';

/** What is opened. */
export interface Source {
  readonly name: string;
  /** ONNX files of all experts, layer by layer. */
  readonly files: readonly string[];
  /** E of the first layer. */
  readonly layerExperts: number;
  readonly hidden: number;
  /** Of all experts: with weights in float32 alone they can be mapped. */
  readonly float32: boolean;
  readonly bytes: number;
  /** Where the experts are those of a package: its folder, and all its ONNX files. */
  readonly model?: { readonly folder: string; readonly files: readonly string[] };
  /** The rival's files; absent for a package whose experts are of no form that it knows. */
  readonly fused?: FusedFiles;
  /** Where experts are made up: what was asked for where memory did not suffice for it, and whether their files are sparse. */
  readonly made?: { readonly shape: LayerShape; readonly asked: LayerShape; readonly sparse: boolean };
}

/** Larger sets of float32 are sparse files. */
const FULL_BYTES = 2 * 2 ** 30;

/**
 * Files of made-up experts are written into `folder`, and those of rivals; experts are made fewer until all weights
 * take `most` bytes. Throws TURNOUT_PACKAGE_*.
 */
export async function openSource(settings: StartupSettings, folder: string, most: number): Promise<Source> {
  return settings.shape ? madeUp(settings.shape, folder, most) : packaged(settings.package!, folder);
}

function scaled(shape: LayerShape, most: number): LayerShape {
  let { experts } = shape;
  while (experts > 1 && shapeBytes({ ...shape, experts }) > most) experts = Math.ceil(experts / 2);
  return { ...shape, experts };
}

async function packaged(folder: string, home: string): Promise<Source> {
  const pkg = await readPackage(folder);
  const { manifest, folder: root } = pkg;
  const { layers, sizes } = manifest;
  const files = layers.flatMap((layer) => [...expertPaths(pkg, layer), ...sharedPaths(pkg, layer)]);
  const gates = layers.flatMap(({ gate }) => (gate && 'model' in gate ? [join(root, gate.model)] : []));
  const all = [...segmentPaths(root, manifest).values(), ...gates, ...files];
  const own = await measureFiles(files);
  const stacked = layers.map((layer) => stackedOf(expertPaths(pkg, layer), sizes.hidden));
  const known = stacked.every((layer) => layer !== undefined) && layers.every(({ shared }) => !shared);
  const fused = known ? await writeFused(home, stacked as Stacked[]) : undefined;
  return {
    name: manifest.name,
    files,
    layerExperts: layers[0]!.experts.length,
    hidden: sizes.hidden,
    ...own,
    ...(fused && { fused }),
    model: { folder, files: all },
  };
}

/** Experts of a form that is known, all alike. */
function stackedOf(paths: readonly string[], hidden: number): Stacked | undefined {
  const found = paths.map(knownExpert);
  const [first] = found;
  if (!first || found.some((one) => one?.activation !== first.activation || one.inner !== first.inner))
    return undefined;
  const { activation, inner } = first;
  return { experts: paths.length, hidden, inner, activation, weightsOf: (e) => found[e]!.weights() };
}

async function madeUp(asked: LayerShape, folder: string, most: number): Promise<Source> {
  const shape = scaled(asked, most);
  const { experts, hidden } = shape;
  const sparse = shape.dtype === 'float32' && shapeBytes(shape) > FULL_BYTES;
  const made = sparse ? undefined : await makeExperts(folder, shape);
  const files = made ? made.files.map(({ path }) => path) : await writeSparseExperts(folder, shape);
  return {
    name: shapeText(shape),
    files,
    layerExperts: experts,
    hidden,
    ...(await measureFiles(files)),
    fused: await (made ? writeFused(folder, [made]) : writeSparseFused(folder, shape)),
    made: { shape, asked, sparse },
  };
}

/** Bytes of the files and of their external data. */
async function measureFiles(files: readonly string[]): Promise<{ bytes: number; float32: boolean }> {
  let bytes = 0;
  let float32 = true;
  for (const path of files) {
    const { initializers } = await readOnnxFile(path);
    const weights = initializers.filter(({ dims }) => dims.length > 1);
    float32 &&= weights.every(({ dtype }) => dtype === 'float32');
    bytes += (await stat(path)).size;
    for (const data of dataOf(path, initializers)) bytes += (await stat(data)).size;
  }
  return { bytes, float32 };
}

type Initializers = Awaited<ReturnType<typeof readOnnxFile>>['initializers'];

function dataOf(path: string, initializers: Initializers): Set<string> {
  return new Set(
    initializers.flatMap(({ external }) => (external ? [join(dirname(path), external.location)] : [])),
  );
}

/** Every file behind these ONNX files. */
export async function allFiles(files: readonly string[]): Promise<string[]> {
  const all = await Promise.all(
    files.map(async (path) => [path, ...dataOf(path, (await readOnnxFile(path)).initializers)]),
  );
  return [...new Set(all.flat())];
}
