import { TurnoutError } from '../../src/errors.js';
import type { Residency } from '../../src/experts/backend.js';
import { BACKENDS, type BackendName } from '../../src/model/open.js';
import { madeShape, namesOf, whole } from '../layer/flags.js';
import { type LayerShape, type ModelName, modelShape } from '../layer/shapes.js';

export const RESIDENCIES = ['packed', 'mapped'] as const;

export interface StartupSettings {
  /** Folder of a package; undefined for made-up experts. */
  readonly package?: string;
  /** Made-up experts. */
  readonly shape?: LayerShape;
  readonly backends: readonly BackendName[];
  readonly residencies: readonly Residency[];
  /** Of threads, and processes where there is one for each device. */
  readonly lanes: number;
  /** Lanes that hold each expert; the backend's own default where left out. */
  readonly replicas?: number;
  readonly oneProcessPer?: 'expert' | 'device';
  readonly rounds: number;
}

export interface StartupFlags {
  readonly package?: string;
  readonly model?: ModelName;
  readonly experts?: number;
  readonly hidden?: number;
  readonly inner?: number;
  readonly activation?: LayerShape['activation'];
  readonly dtype?: LayerShape['dtype'];
  readonly backend: string;
  readonly residency: string;
  readonly lanes?: number;
  readonly replicas?: number;
  readonly oneProcessPer?: 'expert' | 'device';
  readonly rounds: number;
}

/** More than these are typing errors. */
const MOST = { lanes: 1024, rounds: 10_000 } as const;

/** Throws TURNOUT_OPTIONS_INVALID. */
export function settingsOf(flags: StartupFlags, bundled: string, cores: number): StartupSettings {
  const { lanes = cores, replicas, oneProcessPer, rounds } = flags;
  whole('--rounds', rounds, [1, MOST.rounds]);
  whole('--lanes', lanes, [1, MOST.lanes]);
  if (replicas !== undefined) whole('--replicas', replicas, [1, lanes]);
  const shape = shapeOf(flags);
  return {
    ...(shape ? { shape } : { package: flags.package ?? bundled }),
    backends: namesOf('--backend', flags.backend, BACKENDS),
    residencies: namesOf('--residency', flags.residency, RESIDENCIES),
    lanes,
    ...(replicas !== undefined && { replicas }),
    ...(oneProcessPer !== undefined && { oneProcessPer }),
    rounds,
  };
}

/** undefined where a package is meant. */
function shapeOf(flags: StartupFlags): LayerShape | undefined {
  const { model, dtype } = flags;
  const sizes = (['experts', 'hidden', 'inner', 'activation'] as const).filter(
    (key) => flags[key] !== undefined,
  );
  const own = [...(model === undefined ? [] : ['model']), ...sizes];
  const what = own.map((key) => `--${key}`).join(', ');
  if (own.length === 0) {
    if (dtype === undefined) return undefined;
    throw invalid('--dtype: needs --model or --experts', { dtype });
  }
  if (flags.package !== undefined)
    throw invalid(`--package and ${what}: expected a package or a shape`, { own });
  if (model === undefined) return madeShape({ ...SWIGLU, ...flags, k: 1 });
  if (sizes.length > 0) throw invalid(`${what}: the model has its sizes`, { own });
  return modelShape(model, dtype ?? 'float32');
}

const SWIGLU = { activation: 'swiglu' } as const;

function invalid(message: string, details: Record<string, unknown>): TurnoutError {
  return new TurnoutError('TURNOUT_OPTIONS_INVALID', message, details);
}
