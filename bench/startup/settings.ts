import { TurnoutError } from '../../src/errors.js';
import type { Residency } from '../../src/experts/backend.js';
import { BACKENDS, type BackendName } from '../../src/model/open.js';

export const RESIDENCIES = ['packed', 'mapped'] as const;

export interface StartupSettings {
  /** Folder of a package; undefined for made-up experts. */
  readonly package?: string;
  /** Made-up experts: E, H, F. */
  readonly shape?: Shape;
  readonly backends: readonly BackendName[];
  readonly residencies: readonly Residency[];
  /** Of threads, and processes where there is one for each device. */
  readonly lanes: number;
  /** Lanes that hold each expert; the backend's own default where left out. */
  readonly replicas?: number;
  readonly oneProcessPer?: 'expert' | 'device';
  readonly rounds: number;
}

export interface Shape {
  readonly experts: number;
  readonly hidden: number;
  readonly inner: number;
  readonly activation: 'relu' | 'swiglu';
}

/** Names in a list, such as `inline,threads`. Throws TURNOUT_OPTIONS_INVALID. */
export function namesOf<N extends string>(flag: string, list: string, known: readonly N[]): N[] {
  return list.split(',').map((name) => {
    const found = known.find((each) => each === name);
    if (found !== undefined) return found;
    throw invalid(`${flag}: expected some of ${known.join(',')}, got ${name}`, { known });
  });
}

export interface StartupFlags {
  readonly package?: string;
  readonly experts?: number;
  readonly hidden?: number;
  readonly inner?: number;
  readonly activation?: Shape['activation'];
  readonly backend?: string;
  readonly residency?: string;
  readonly lanes?: number;
  readonly replicas?: number;
  readonly oneProcessPer?: 'expert' | 'device';
  readonly rounds?: number;
}

const LEAST = { experts: 1, hidden: 1, inner: 1, lanes: 1, replicas: 1, rounds: 1 } as const;

/** Throws TURNOUT_OPTIONS_INVALID. */
export function settingsOf(flags: StartupFlags, bundled: string, cores: number): StartupSettings {
  for (const [key, least] of Object.entries(LEAST)) {
    const value = flags[key as keyof typeof LEAST];
    if (value === undefined || (Number.isSafeInteger(value) && value >= least)) continue;
    throw invalid(`--${key}: expected a whole number from ${least}, got ${value}`, { got: value });
  }
  const { lanes = cores, replicas, oneProcessPer, rounds = 3 } = flags;
  const shape = shapeOf(flags);
  return {
    ...(shape ? { shape } : { package: flags.package ?? bundled }),
    backends: namesOf('--backend', flags.backend ?? BACKENDS.join(','), BACKENDS),
    residencies: namesOf('--residency', flags.residency ?? RESIDENCIES.join(','), RESIDENCIES),
    lanes,
    ...(replicas !== undefined && { replicas }),
    ...(oneProcessPer !== undefined && { oneProcessPer }),
    rounds,
  };
}

function shapeOf({
  experts,
  hidden,
  inner,
  activation = 'swiglu',
  ...flags
}: StartupFlags): Shape | undefined {
  const sizes = { '--experts': experts, '--hidden': hidden, '--inner': inner };
  const given = Object.entries(sizes).flatMap(([flag, value]) => (value === undefined ? [] : [flag]));
  if (given.length === 0) return undefined;
  if (flags.package !== undefined)
    throw invalid(`--package and ${given[0]}: expected a package or a shape`, { given });
  if (experts === undefined || hidden === undefined || inner === undefined)
    throw invalid(`expected --experts, --hidden and --inner together, got ${given.join(', ')}`, { given });
  return { experts, hidden, inner, activation };
}

function invalid(message: string, details: Record<string, unknown>): TurnoutError {
  return new TurnoutError('TURNOUT_OPTIONS_INVALID', message, details);
}
