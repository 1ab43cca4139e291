import { type Static, type TSchema, Type } from 'typebox';
import { type ErrorCode, TurnoutError } from '../errors.js';
import { ExpertChoiceOptions } from './algorithms/expert-choice.js';
import { GivenOptions } from './algorithms/given.js';
import { HashOptions } from './algorithms/hash.js';
import { SinkhornOptions } from './algorithms/sinkhorn.js';
import { SparseMixerOptions } from './algorithms/sparse-mixer.js';
import { findProblem } from './problem.js';
import { TokenChoiceOptions, type ZeroComputationOptions } from './token-choice/options.js';

/** Every rule, told apart by `algorithm`. */
export const RouterOptions = Type.Union(
  [TokenChoiceOptions, ExpertChoiceOptions, SinkhornOptions, HashOptions, SparseMixerOptions, GivenOptions],
  { description: 'How a router chooses experts: one record per algorithm.' },
);
export type RouterOptions = Static<typeof RouterOptions>;
export type Algorithm = RouterOptions['algorithm'];
/** The options of one algorithm. */
export type OptionsOf<A extends Algorithm> = Extract<RouterOptions, { algorithm: A }>;

type Nullable<T> = { [K in keyof T]?: T[K] | null };
type Stage<T> = T extends readonly unknown[] ? T : T extends object ? Nullable<T> : T;
type Stages<T> = { [K in keyof T]?: Stage<T[K]> | null };

/** Options to lay over a preset, stage by stage; null takes a key away (as in JSON merge patch, RFC 7396). */
export type OverridesOf<A extends Algorithm> = A extends Algorithm ? Stages<OptionsOf<A>> : never;
export type RouterOverrides = OverridesOf<Algorithm>;

/** Where a wrong value has a code of its own; everything else is TURNOUT_OPTIONS_INVALID. */
const CODES: readonly [RegExp, ErrorCode][] = [
  [/^(select\.)?k$/, 'TURNOUT_CHOICES_INVALID'],
  [/^(admit\.)?(factor|capacity|minimum)$/, 'TURNOUT_CAPACITY_INVALID'],
];

/**
 * Checks options read from anywhere. Throws TURNOUT_OPTIONS_INVALID (an unknown key included),
 * TURNOUT_CHOICES_INVALID for k, TURNOUT_CAPACITY_INVALID for a factor, each with what was expected and what came.
 */
export function parseOptions(value: unknown): RouterOptions {
  const problem = findProblem(RouterOptions as TSchema, value, '');
  if (problem === undefined) return value as RouterOptions;
  const code = CODES.find(([path]) => path.test(problem.path))?.[1] ?? 'TURNOUT_OPTIONS_INVALID';
  const { path, expected, got } = problem;
  throw new TurnoutError(code, `${path || 'options'}: expected ${expected}, got ${got}`, {
    path,
    expected,
    got,
  });
}

type Json = Record<string, unknown>;
const isRecord = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** `over` laid over `base`: records inside a stage are replaced as a whole, so that no variants mix. */
function mergeStage(base: Json, over: Json): Json {
  const merged = { ...base };
  for (const [key, value] of Object.entries(over)) {
    if (value === null) delete merged[key];
    else merged[key] = value;
  }
  return merged;
}

/** The two kinds of capacity exclude each other, so writing one takes the other away. */
function mergeAdmit(base: Json, over: Json): Json {
  const { factor, minimum, capacity, formula, ...rest } = base;
  if (over.capacity !== undefined || over.formula === 'fixed') return mergeStage({ ...rest }, over);
  if (over.factor !== undefined && formula === 'fixed') return mergeStage({ ...rest }, over);
  return mergeStage(base, over);
}

/**
 * Lays overrides over options, stage by stage and key by key; null takes a key away. Overrides that name another
 * algorithm are complete options of their own. Throws as parseOptions.
 */
export function mergeOptions(base: RouterOptions, overrides: unknown): RouterOptions {
  if (!isRecord(overrides)) return parseOptions(overrides);
  if (overrides.algorithm !== undefined && overrides.algorithm !== base.algorithm)
    return parseOptions(overrides);
  const merged: Json = { ...base };
  for (const [key, value] of Object.entries(overrides)) {
    const before = merged[key];
    if (value === null) delete merged[key];
    else if (!isRecord(before) || !isRecord(value)) merged[key] = value;
    else merged[key] = key === 'admit' ? mergeAdmit(before, value) : mergeStage(before, value);
  }
  return parseOptions(merged);
}

/** The two numbers that are changed most, under one name for all algorithms. */
export interface Shortcuts {
  /** Choices per token. */
  readonly k?: number | undefined;
  /** Capacity factor; none for dropless. */
  readonly capacityFactor?: number | 'none' | undefined;
}

/** Writes the shortcuts where the algorithm has its k and its factor. Throws as parseOptions. */
export function withShortcuts(options: RouterOptions, { k, capacityFactor }: Shortcuts): RouterOptions {
  let changed = options;
  if (k !== undefined) {
    changed = mergeOptions(changed, options.algorithm === 'token-choice' ? { select: { k } } : { k });
  }
  if (capacityFactor === undefined) return changed;
  if (options.algorithm === 'expert-choice') return mergeOptions(changed, { factor: capacityFactor });
  return mergeOptions(changed, {
    admit: capacityFactor === 'none' ? 'none' : { factor: capacityFactor },
  });
}

/** Experts without computation of a rule; only token choice has some. */
export function zeroComputationOf(options: RouterOptions): ZeroComputationOptions {
  return (options.algorithm === 'token-choice' && options.zeroComputation) || {};
}

/** K: the most choices that a token can have among `experts` experts. */
export function choicesOf(options: RouterOptions, experts: number): number {
  if (options.algorithm === 'token-choice') return options.select.k;
  return options.algorithm === 'expert-choice' ? experts : options.k;
}

/** The smallest E that the options accept: for a call without rows, where nothing else tells E. */
export function smallestExperts(options: RouterOptions): number {
  if (options.algorithm !== 'token-choice') return choicesOf(options, 1);
  const { score, select, zeroComputation } = options;
  if (score.bias) return score.bias.length;
  const { zero = 0, copy = 0, constant = 0 } = zeroComputation ?? {};
  const least = Math.max(select.k, zero + copy + constant + 1);
  const { count, keep } = select.groups ?? { count: 1, keep: 1 };
  return Math.max(Math.ceil(least / count), Math.ceil(select.k / keep)) * count;
}
