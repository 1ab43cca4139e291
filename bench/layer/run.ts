import { mkdir, mkdtemp, rm, statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TurnoutError } from '../../src/errors.js';
import type { Residency } from '../../src/experts/backend.js';
import { environment } from '../support/measure.js';
import { type Fitted, fitShape } from './budget.js';
import { bestOf, type Machine, measureMachine } from './machine.js';
import type { ContenderName, Load } from './names.js';
import { measureNoise, noiseNotes } from './noise.js';
import type { PackageLayer } from './package-source.js';
import type { Report, ShapeFigures } from './report-schema.js';
import { runCases, type ShapeOptions } from './run-cases.js';
import { type LayerShape, shapeBytes, weightsText } from './shapes.js';

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
  /** Whether somebody asked for these devices; others are done without where they cannot be had. */
  readonly devicesAsked: boolean;
  readonly residency: Residency;
  /** Readings of each time. */
  readonly rounds: number;
  /** How long each contender runs at a time; 100 where left out. */
  readonly readingMs?: number;
  /** Bytes that all copies of the weights of a shape may take together. */
  readonly memory: number;
  readonly seed: number;
  readonly signal?: AbortSignal;
  onProgress?(text: string): void;
  /** Called when all cases of a shape are measured. */
  onShape?(figures: ShapeFigures): Promise<void>;
}

/**
 * Measures the layers one after the other. Throws TURNOUT_OPTIONS_INVALID where one does not fit into memory or on the
 * disk, the reason of the signal, what cannot be opened, and a plain error where contenders do not agree.
 */
export async function benchLayer(options: LayerBenchOptions): Promise<Report> {
  const { lanes, onShape, onProgress, signal, packageLayer, ...settings } = options;
  const layers = settings.shapes.map((asked) => ({ asked, fitted: fitted(asked, options) }));
  const folder = await mkdtemp(join(tmpdir(), 'turnout-bench-'));
  try {
    await checkDisk(
      folder,
      layers.map(({ fitted }) => fitted),
    );
    const before = environment();
    const noise = measureNoise();
    const from = performance.now();
    const machines = new Map<string, Machine>();
    const shapes: ShapeFigures[] = [];
    for (const layer of layers) {
      const weights = weightsText(layer.asked);
      signal?.throwIfAborted();
      onProgress?.('measuring memory bandwidth and peak');
      const machine = bestOf(machines.get(weights), await measureMachine(folder, lanes, layer.asked));
      machines.set(weights, machine);
      const home = join(folder, String(shapes.length));
      const figures = await benchShape(layer, machine, { ...options, folder: home });
      shapes.push(figures);
      await onShape?.(figures);
    }
    const seconds = (performance.now() - from) / 1000;
    const loadAverageAfter = environment().loadAverage;
    const notes = noiseNotes({ noise, lanes, loadAverage: before.loadAverage, loadAverageAfter, shapes });
    const versions = Object.assign({}, before.versions, ...shapes.map((figures) => figures.versions));
    const format = { format: 'turnout-bench-layer', version: 1 } as const;
    return {
      ...format,
      notes,
      settings: { ...settings, lanes },
      ...before,
      versions,
      seconds,
      loadAverageAfter,
      noise,
      shapes,
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function fitted(asked: LayerShape, options: LayerBenchOptions): Fitted {
  const { contenders, lanes, devices, residency, packageLayer, memory } = options;
  const fixed = packageLayer !== undefined;
  return fitShape(asked, { contenders, lanes, devices: devices.length, residency, fixed }, memory);
}

/** Files of the experts, and once more of the fused operator. */
const FILES = 2;

async function checkDisk(folder: string, fitted: readonly Fitted[]): Promise<void> {
  const need = FILES * Math.max(...fitted.map(({ shape }) => shapeBytes(shape)));
  const { bavail, bsize } = await statfs(folder);
  const free = bavail * bsize;
  if (need <= free) return;
  const gib = (bytes: number) => (bytes / 2 ** 30).toFixed(1);
  const message = `--memory: the files of the layer take ${gib(need)} GiB, and ${tmpdir()} has ${gib(free)}: set TMPDIR to another folder, or --memory`;
  throw new TurnoutError('TURNOUT_OPTIONS_INVALID', message, { need, free });
}

async function benchShape(
  { asked, fitted }: { readonly asked: LayerShape; readonly fitted: Fitted },
  machine: Machine,
  options: ShapeOptions,
): Promise<ShapeFigures> {
  const { folder } = options;
  await mkdir(folder);
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
