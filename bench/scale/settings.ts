import { TurnoutError } from '../../src/errors.js';
import type { Residency } from '../../src/experts/backend.js';
import { madeShape, namesOf, whole } from '../layer/flags.js';
import type { LayerShape } from '../layer/shapes.js';

export const SCALE_BACKENDS = ['inline', 'threads'] as const;
export type ScaleBackend = (typeof SCALE_BACKENDS)[number];

export interface ScaleSettings {
  /** Ascending. */
  readonly experts: readonly number[];
  readonly k: number;
  /** Of each expert in each call. */
  readonly rows: number;
  readonly hidden: number;
  readonly inner: number;
  readonly backends: readonly ScaleBackend[];
  readonly residency: Residency;
  readonly lanes: number;
  /** Lanes that hold each expert. */
  readonly replicas: number;
  readonly rounds: number;
}

export interface ScaleFlags {
  readonly experts: string;
  readonly k: number;
  readonly rows: number;
  readonly hidden: number;
  readonly inner: number;
  readonly backend: string;
  readonly residency: Residency;
  readonly lanes?: number;
  readonly replicas?: number;
  readonly rounds: number;
}

/** More than these are typing errors. */
const MOST = { rows: 4096, lanes: 1024, rounds: 10_000 } as const;

/** Throws TURNOUT_OPTIONS_INVALID or TURNOUT_CHOICES_INVALID. */
export function settingsOf(flags: ScaleFlags, cores: number): ScaleSettings {
  const { k, rows, hidden, inner, rounds, residency, lanes = cores } = flags;
  const { replicas = lanes } = flags;
  const experts = flags.experts.split(',').map(Number);
  for (const count of experts) shapeOf({ k, hidden, inner }, count);
  const unsorted = experts.findIndex((count, i) => i > 0 && count <= experts[i - 1]!);
  if (unsorted >= 0) {
    const message = `--experts: expected ascending numbers, got ${experts[unsorted]} after ${experts[unsorted - 1]}`;
    throw new TurnoutError('TURNOUT_OPTIONS_INVALID', message, { experts });
  }
  whole('--rows', rows, [1, MOST.rows]);
  whole('--lanes', lanes, [1, MOST.lanes]);
  whole('--replicas', replicas, [1, lanes]);
  whole('--rounds', rounds, [1, MOST.rounds]);
  const backends = namesOf('--backend', flags.backend, SCALE_BACKENDS);
  return { experts, k, rows, hidden, inner, backends, residency, lanes, replicas, rounds };
}

/** Experts of two matrices. Throws TURNOUT_OPTIONS_INVALID or TURNOUT_CHOICES_INVALID. */
export function shapeOf(
  { k, hidden, inner }: Pick<ScaleSettings, 'k' | 'hidden' | 'inner'>,
  experts: number,
): LayerShape {
  return madeShape({ experts, k, hidden, inner, activation: 'relu', dtype: 'float32' });
}
