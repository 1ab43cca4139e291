import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Residency } from '../../src/experts/backend.js';
import { openBareExperts } from '../peers/bare-experts.js';
import { environment } from '../support/measure.js';
import { type Fitted, fitShape } from './budget.js';
import { type CaseParts, measureCase } from './case.js';
import { type LayerContender, openContender } from './contenders.js';
import { type Machine, measureMachine } from './machine.js';
import type { ContenderName, Load } from './names.js';
import { measureNoise, noiseNotes } from './noise.js';
import { checkOracle } from './oracle.js';
import { openPackageSource, type PackageLayer } from './package-source.js';
import type { CaseFigures, Report, ShapeFigures } from './report-schema.js';
import { type LayerShape, shapeBytes, shapeText } from './shapes.js';
import { makeCase, makeSource } from './source.js';

export interface LayerBenchOptions {
  readonly shapes: readonly LayerShape[];
  /** Of a package, instead of shapes; it is never scaled. */
  readonly packageLayer?: PackageLayer;
  /** T of the calls. */
  readonly tokens: readonly number[];
  readonly loads: readonly Load[];
  readonly contenders: readonly ContenderName[];
  /** Threads of everybody who has some. */
  readonly lanes: number;
  /** Of the processes, one each. */
  readonly devices: readonly string[];
  readonly residency: Residency;
  /** Readings of each time. */
  readonly rounds: number;
  /** Bytes that all copies of the weights of a shape may take together. */
  readonly memory: number;
  readonly seed: number;
  readonly signal?: AbortSignal;
  onProgress?(text: string): void;
  /** Called when all cases of a shape are measured. */
  onShape?(figures: ShapeFigures): Promise<void>;
}

/** Measures the layers one after the other. Throws the reason of the signal, and what cannot be opened. */
export async function benchLayer(options: LayerBenchOptions): Promise<Report> {
  const { lanes, signal, onProgress, onShape, packageLayer, ...settings } = options;
  const folder = await mkdtemp(join(tmpdir(), 'turnout-bench-'));
  try {
    const before = environment();
    const noise = measureNoise();
    const from = performance.now();
    const machines = new Map<LayerShape['dtype'], Machine>();
    const shapes: ShapeFigures[] = [];
    for (const shape of settings.shapes) {
      signal?.throwIfAborted();
      let machine = machines.get(shape.dtype);
      if (!machine) {
        onProgress?.('measuring memory bandwidth and peak');
        machine = await measureMachine(folder, lanes, shape.dtype);
        machines.set(shape.dtype, machine);
      }
      const figures = await benchShape(shape, machine, {
        ...options,
        folder: join(folder, String(shapes.length)),
      });
      shapes.push(figures);
      await onShape?.(figures);
    }
    const loadAverageAfter = environment().loadAverage;
    return {
      format: 'turnout-bench-layer',
      version: 1,
      notes: noiseNotes({ noise, lanes, loadAverage: before.loadAverage, loadAverageAfter, shapes }),
      settings: { ...settings, lanes },
      ...before,
      seconds: (performance.now() - from) / 1000,
      loadAverageAfter,
      noise,
      shapes,
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

interface Run {
  readonly cases: CaseFigures[];
  readonly notes: string[];
  /** Of rivals. */
  readonly versions: Readonly<Record<string, string>>;
}

type ShapeOptions = LayerBenchOptions & { readonly folder: string };

async function benchShape(asked: LayerShape, machine: Machine, options: ShapeOptions): Promise<ShapeFigures> {
  const { folder, lanes, devices, residency, contenders, memory } = options;
  const holders = { contenders, lanes, devices: devices.length, residency };
  const fitted = fitShape(asked, { ...holders, fixed: options.packageLayer !== undefined }, memory);
  await mkdir(folder, { recursive: true });
  try {
    const run = await runCases(fitted, machine, options);
    return {
      shape: fitted.shape,
      ...(fitted.shape.experts !== asked.experts && { asked }),
      weightBytes: shapeBytes(fitted.shape),
      needBytes: fitted.needBytes,
      machine,
      ...run,
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function runCases(fitted: Fitted, machine: Machine, options: ShapeOptions): Promise<Run> {
  const { folder, lanes, devices, residency, loads, tokens, rounds, seed, packageLayer, signal, onProgress } =
    options;
  const { shape, contenders } = fitted;
  onProgress?.(`writing ${shapeText(shape)}`);
  const source = await (packageLayer
    ? openPackageSource(folder, packageLayer, seed)
    : makeSource(folder, shape, seed));
  await using stack = new Closing();
  const opened: LayerContender[] = [];
  const notes: string[] = [...fitted.notes, ...(source.notes ?? [])];
  for (const name of contenders) {
    signal?.throwIfAborted();
    onProgress?.(`opening ${name}`);
    const contender = await openContender(name, { source, folder, lanes, devices, residency });
    if ('skipped' in contender) notes.push(`${name} skipped: ${contender.skipped}`);
    else opened.push(stack.use(contender));
  }
  onProgress?.('opening the lanes of the limit');
  const bare = stack.use(await openBareExperts(source.files, lanes, residency));
  const parts: CaseParts = { source, contenders: opened, bare, machine, lanes, rounds, signal };
  const figures: CaseFigures[] = [];
  for (const load of loads) {
    for (const count of tokens) {
      onProgress?.(`${shapeText(shape)}: ${load}, T = ${count}`);
      const call = await makeCase(source, { load, tokens: count, seed });
      if (figures.length === 0) await checkOracle(call, source, opened);
      figures.push(await measureCase(call, parts));
    }
  }
  const versions = opened.flatMap(({ name, version }) => (version === undefined ? [] : [[name, version]]));
  return { cases: figures, notes, versions: Object.fromEntries(versions) };
}

/** Closes what it was given, the last one first. */
class Closing implements AsyncDisposable {
  readonly #open: AsyncDisposable[] = [];

  use<T extends AsyncDisposable>(resource: T): T {
    this.#open.push(resource);
    return resource;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const resource of this.#open.reverse()) await resource[Symbol.asyncDispose]();
  }
}
