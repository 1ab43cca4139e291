import { TurnoutError } from '../../src/errors.js';
import type { ExpertBackend, Residency } from '../../src/experts/backend.js';
import { parseDevice } from '../../src/experts/device.js';
import { openInline } from '../../src/experts/inline.js';
import { openProcesses } from '../../src/experts/processes.js';
import { openThreads } from '../../src/experts/threads.js';
import { type Gate, openGate } from '../../src/gate.js';
import { openBackend } from '../../src/model/open.js';
import { MoeLayer, type StageTimes } from '../../src/moe-layer.js';
import { matrix, zeros } from '../../src/tensor.js';
import { openDenseMoe } from '../peers/dense-moe.js';
import { openFusedMoe } from '../peers/fused-moe.js';
import type { LayerSession, LayerSessionOptions } from '../peers/layer-session.js';
import type { ExpertSet } from '../support/experts.js';
import type { ContenderName, Load } from './names.js';
import type { LayerCase, LayerSource } from './source.js';
import { openTorch } from './torch.js';

/** Somebody who runs a whole layer, gate included. */
export interface LayerContender extends AsyncDisposable {
  readonly name: ContenderName;
  /** Of the software that it is made of, where the report does not name it already. */
  readonly version?: string;
  /** Whether it computes as `inline` does, to the bit: turnout's own ways on a CPU. */
  readonly exact?: boolean;
  /** x [T, H] -> y [T, H] */
  forward(call: LayerCase): Promise<Float32Array>;
  /** Stage times of the calls since they were last cleared; only of turnout's own ways. */
  readonly stages?: StageTimes[];
  /** Milliseconds of one call, as the mean of `repeats`, where it reads a clock of its own. */
  timed?(call: LayerCase, repeats: number): Promise<number>;
}

export interface OpenOptions {
  readonly source: LayerSource;
  /** For files of rivals. */
  readonly folder: string;
  readonly lanes: number;
  readonly devices: readonly string[];
  /** Whether somebody asked for these devices; others are done without where they cannot be had. */
  readonly devicesAsked: boolean;
  readonly residency: Residency;
}

/** Why a contender cannot run here. */
export interface Skipped {
  readonly skipped: string;
}

type Open = (options: OpenOptions) => Promise<LayerContender | Skipped>;

/** How each contender is opened. */
const OPEN: Readonly<Record<ContenderName, Open>> = {
  auto: over('auto', ({ source, residency, lanes }) => {
    const paths = source.files.map(({ path }) => path);
    return openBackend(paths, undefined, { backend: 'auto', residency, lanes });
  }),
  inline: over('inline', ({ source, residency }) => openInline(source.files, { residency })),
  threads: over('threads', ({ source, residency, lanes }) => openThreads(source.files, { residency, lanes })),
  processes: openOnDevices,
  fused: inSession('fused', openFusedMoe),
  dense: inSession('dense', openDenseMoe),
  torch: openTorch,
};

const TURNOUT: readonly ContenderName[] = ['auto', 'inline', 'threads', 'processes'];

/** Opens a contender, or tells why it cannot run this layer here. */
export async function openContender(
  name: ContenderName,
  options: OpenOptions,
): Promise<LayerContender | Skipped> {
  const { shape, set } = options.source;
  if (!set && !TURNOUT.includes(name))
    return { skipped: 'it is built from the weights, and the form of these experts is not known' };
  if (name === 'torch' && shape.dtype !== 'float32')
    return { skipped: `its loop has no ${shape.dtype} weights` };
  return OPEN[name](options);
}

async function openOnDevices(options: OpenOptions): Promise<LayerContender | Skipped> {
  const { devices, devicesAsked } = options;
  const open = over('processes', ({ source, residency }) =>
    openProcesses(source.files, { residency, devices, oneProcessPer: 'device', replicas: devices.length }),
  );
  try {
    const contender = await open(options);
    const onCpu = devices.every((device) => parseDevice(device).provider === 'cpu');
    return 'skipped' in contender ? contender : { ...contender, exact: onCpu };
  } catch (error) {
    const missing = error instanceof TurnoutError && error.code === 'TURNOUT_DEVICE_UNAVAILABLE';
    if (devicesAsked || !missing) throw error;
    return { skipped: error.message };
  }
}

function inSession(
  name: ContenderName,
  open: (set: ExpertSet, options: LayerSessionOptions) => Promise<LayerSession>,
): Open {
  return async ({ source, folder, lanes }) => {
    const session = await open(source.set!, { folder, k: source.shape.k, threads: lanes });
    return {
      name,
      forward: ({ x, bias }) => session.run(x, bias),
      [Symbol.asyncDispose]: () => session.release(),
    };
  };
}

function over(name: ContenderName, open: (options: OpenOptions) => Promise<ExpertBackend>): Open {
  return async (options) => {
    const backend = await open(options);
    try {
      return await openTurnout(name, backend, options.source);
    } catch (error) {
      await backend.close();
      throw error;
    }
  };
}

async function openTurnout(
  name: ContenderName,
  backend: ExpertBackend,
  { shape, router, gates }: LayerSource,
): Promise<LayerContender> {
  const opened: Gate[] = [];
  const layerOf = async (load: Load) => {
    const gate = await openGate(gates[load].path, shape.hidden, shape.experts);
    opened.push(gate);
    return new MoeLayer({ name, index: 0, router, backend, gate });
  };
  const layers: Record<Load, MoeLayer> = { even: await layerOf('even'), skewed: await layerOf('skewed') };
  await warmUp(layers.even);
  const stages: StageTimes[] = [];
  // As callers do whose calls follow each other.
  let into = zeros(0, shape.hidden);
  return {
    name,
    exact: true,
    stages,
    async forward({ load, x }) {
      if (into.rows !== x.rows) into = zeros(x.rows, shape.hidden);
      const { y, times } = await layers[load].forward(x, { into });
      stages.push(times);
      return y.data;
    },
    async [Symbol.asyncDispose]() {
      await backend.close();
      await Promise.all(opened.map((gate) => gate.close()));
    },
  };
}

/** Calls that every thread and process on the way compiles its code in: servers live longer than a bench. */
const WARM_CALLS = 2000;
const WARM_MS = 2500;
const WARM_ROWS = 4;

async function warmUp(layer: MoeLayer): Promise<void> {
  const until = performance.now() + WARM_MS;
  const random = Float32Array.from({ length: WARM_ROWS * layer.hidden }, () => Math.random() - 0.5);
  const x = matrix(random, WARM_ROWS, layer.hidden);
  for (let i = 0; i < WARM_CALLS && performance.now() < until; i++) await layer.forward(x);
}
