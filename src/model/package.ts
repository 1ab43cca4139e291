import { readFile, realpath, stat } from 'node:fs/promises';
import { join, posix, resolve, sep } from 'node:path';
import { TurnoutError } from '../errors.js';
import { sha256Of } from '../experts/versions.js';
import { checkPath, MANIFEST_LIMITS, type Manifest, modelFiles, parseManifest } from './manifest.js';
import { type OnnxSummary, readOnnxFile } from './onnx.js';
import { checkShapes } from './shapes.js';

/** A package on disk whose manifest has been parsed. */
export interface Package {
  /** Absolute path of the folder. */
  readonly folder: string;
  readonly manifest: Manifest;
}

export interface VerifyOptions {
  /** `verify` reads every byte; `skip` trusts the lengths (for packages of many gigabytes on trusted disks). */
  readonly checksums?: 'verify' | 'skip';
  readonly onProgress?: (done: number, total: number, file: string) => void;
}

/** Reads and checks manifest.json in `folder`. Throws TURNOUT_PACKAGE_FILE_MISSING, TURNOUT_MANIFEST_INVALID or TURNOUT_PACKAGE_PATH_OUTSIDE. */
export async function readPackage(folder: string): Promise<Package> {
  const path = join(folder, 'manifest.json');
  const info = await stat(path).catch(() => undefined);
  if (!info?.isFile()) {
    throw new TurnoutError('TURNOUT_PACKAGE_FILE_MISSING', `expected a package with a manifest at ${path}`, {
      file: path,
    });
  }
  if (info.size > MANIFEST_LIMITS.MAX_MANIFEST_BYTES) {
    throw new TurnoutError(
      'TURNOUT_MANIFEST_INVALID',
      `manifest.json: expected at most ${MANIFEST_LIMITS.MAX_MANIFEST_BYTES} bytes, got ${info.size}`,
    );
  }
  return { folder: resolve(folder), manifest: parseManifest(await readFile(path, 'utf8')) };
}

/**
 * Checks everything that can be checked before anything is run: each listed file is there, inside the package, of the
 * right length and checksum; each ONNX file keeps its data inside the package and has the shapes of the manifest.
 * Throws the first problem as TURNOUT_PACKAGE_*; see `packageProblems` for all of them.
 */
export async function verifyPackage(pkg: Package, options: VerifyOptions = {}): Promise<void> {
  for await (const problem of packageProblems(pkg, options)) throw problem;
}

/** Every problem of the package, in the order of its files; shapes last. */
export async function* packageProblems(
  pkg: Package,
  options: VerifyOptions = {},
): AsyncGenerator<TurnoutError> {
  const files = Object.keys(pkg.manifest.files);
  let bad = false;
  for (const [index, file] of files.entries()) {
    options.onProgress?.(index, files.length, file);
    const problem = await caught(() => checkFile(pkg, file, options.checksums ?? 'verify'));
    if (problem) {
      bad = true;
      yield problem;
    }
  }
  options.onProgress?.(files.length, files.length, '');
  if (bad) return;
  const graphs = new Map<string, OnnxSummary>();
  for (const file of new Set(modelFiles(pkg.manifest))) {
    const problem = await caught(async () => graphs.set(file, await readGraph(pkg, file)));
    if (problem) {
      bad = true;
      yield problem;
    }
  }
  if (!bad) yield* checkShapes(pkg.manifest, graphs);
}

/** Runs a check; its TurnoutError is the result, anything else is thrown on. */
async function caught(check: () => Promise<unknown>): Promise<TurnoutError | undefined> {
  try {
    await check();
    return undefined;
  } catch (error) {
    if (error instanceof TurnoutError) return error;
    throw error;
  }
}

/** The absolute path of a package file, after links; throws where it is missing or outside. */
async function locate(pkg: Package, file: string): Promise<string> {
  checkPath(file);
  const path = join(pkg.folder, file);
  const real = await realpath(path).catch(() => undefined);
  if (real === undefined) {
    throw new TurnoutError('TURNOUT_PACKAGE_FILE_MISSING', `expected ${file} in ${pkg.folder}`, { file });
  }
  const home = (await realpath(pkg.folder)) + sep;
  if (!real.startsWith(home)) {
    throw new TurnoutError(
      'TURNOUT_PACKAGE_PATH_OUTSIDE',
      `${file} is a link that leads out of the package`,
      { file },
    );
  }
  return real;
}

async function checkFile(pkg: Package, file: string, checksums: 'verify' | 'skip'): Promise<void> {
  const expected = pkg.manifest.files[file]!;
  const path = await locate(pkg, file);
  const info = await stat(path);
  if (!info.isFile()) {
    throw new TurnoutError('TURNOUT_PACKAGE_FILE_MISSING', `expected ${file} to be a file`, { file });
  }
  if (info.size !== expected.bytes) {
    throw new TurnoutError(
      'TURNOUT_PACKAGE_SIZE_MISMATCH',
      `${file}: expected ${expected.bytes} bytes, got ${info.size}`,
      { file, expected: expected.bytes, got: info.size },
    );
  }
  if (checksums === 'skip') return;
  const got = await sha256Of(path);
  if (got !== expected.sha256) {
    throw new TurnoutError(
      'TURNOUT_PACKAGE_CHECKSUM_MISMATCH',
      `${file}: expected sha256 ${expected.sha256}, got ${got}`,
      { file, expected: expected.sha256, got },
    );
  }
}

/** Reads one ONNX file and checks that its external data lies in listed files, within their length. */
async function readGraph(pkg: Package, file: string): Promise<OnnxSummary> {
  const graph = await readOnnxFile(await locate(pkg, file));
  for (const tensor of graph.initializers) {
    if (!tensor.external) continue;
    const { location, offset, length } = tensor.external;
    const data = posix.join(posix.dirname(file), location);
    if (posix.isAbsolute(location) || data.startsWith('../')) {
      throw new TurnoutError(
        'TURNOUT_PACKAGE_PATH_OUTSIDE',
        `${file}: the data of ${tensor.name} lies at ${JSON.stringify(location)}, outside the package`,
        { file, location },
      );
    }
    const listed = Object.hasOwn(pkg.manifest.files, data) ? pkg.manifest.files[data] : undefined;
    if (!listed) {
      throw new TurnoutError(
        'TURNOUT_PACKAGE_FILE_MISSING',
        `${file}: the data file ${data} is not listed in "files"`,
        { file, data },
      );
    }
    const bytes = tensor.bytes;
    if (offset + bytes > listed.bytes || (length !== undefined && length !== bytes)) {
      throw new TurnoutError(
        'TURNOUT_PACKAGE_SHAPE_MISMATCH',
        `${file}: ${tensor.name} [${tensor.dims.join(', ')}] needs ${bytes} bytes at ${offset}, ${data} gives ${length ?? listed.bytes - offset}`,
        { file, tensor: tensor.name },
      );
    }
  }
  return graph;
}
