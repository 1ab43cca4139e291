import { stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { readOnnxFile } from '../../src/model/onnx.js';
import { expertPaths, segmentPaths, sharedPaths } from '../../src/model/open.js';
import { readPackage } from '../../src/model/package.js';
import { makeExperts } from '../support/experts.js';
import type { Shape, StartupSettings } from './settings.js';
import { writeSparseExperts } from './sparse.js';

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
  /** Where experts are made up: whether their files are sparse. */
  readonly made?: { readonly shape: Shape; readonly sparse: boolean };
}

/** Larger sets are sparse files. */
const FULL_BYTES = 2 * 2 ** 30;

/** Throws TURNOUT_PACKAGE_*. Made-up experts are written into `folder`. */
export async function openSource(settings: StartupSettings, folder: string): Promise<Source> {
  return settings.shape ? madeUp(settings.shape, folder) : packaged(settings.package!);
}

async function packaged(folder: string): Promise<Source> {
  const pkg = await readPackage(folder);
  const { manifest, folder: root } = pkg;
  const { layers, sizes } = manifest;
  const files = layers.flatMap((layer) => [...expertPaths(pkg, layer), ...sharedPaths(pkg, layer)]);
  const gates = layers.flatMap(({ gate }) => (gate && 'model' in gate ? [join(root, gate.model)] : []));
  const all = [...segmentPaths(root, manifest).values(), ...gates, ...files];
  const own = await measureFiles(files);
  return {
    name: manifest.name,
    files,
    layerExperts: layers[0]!.experts.length,
    hidden: sizes.hidden,
    ...own,
    model: { folder, files: all },
  };
}

async function madeUp(shape: Shape, folder: string): Promise<Source> {
  const { experts, hidden, inner, activation } = shape;
  const sparse = experts * (activation === 'relu' ? 2 : 3) * 4 * hidden * inner > FULL_BYTES;
  const files = sparse
    ? await writeSparseExperts(folder, shape)
    : (await makeExperts(folder, shape)).files.map(({ path }) => path);
  return {
    name: `${experts} experts, H=${hidden}, F=${inner}, ${activation}`,
    files,
    layerExperts: experts,
    hidden,
    ...(await measureFiles(files)),
    made: { shape, sparse },
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
