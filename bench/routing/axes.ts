import { TurnoutError } from '../../src/errors.js';
import { presetNames } from '../../src/router/presets.js';

/** A capacity factor, or dropless. */
export type FactorAxis = number | 'none';

export const PRIORITIES = [
  'token-major',
  'k-major',
  'batch-prioritised',
  'probability',
  'logit',
  'random',
] as const;
export const OVERFLOWS = ['drop', 'next-best'] as const;
export const SCOPES = ['request', 'sequence', 'call'] as const;

/** What is combined with each other. */
export interface Axes {
  /** Presets, and the rule of the model. */
  readonly rules: readonly string[];
  readonly factors: readonly FactorAxis[];
  readonly priorities: readonly (typeof PRIORITIES)[number][];
  readonly overflows: readonly (typeof OVERFLOWS)[number][];
  readonly scopes: readonly (typeof SCOPES)[number][];
}

/** Lists of names with commas between them; all that there is where left out. */
export interface AxisFlags {
  readonly presets?: string | undefined;
  readonly factors?: string | undefined;
  readonly priorities?: string | undefined;
  readonly overflows?: string | undefined;
  readonly scopes?: string | undefined;
}

const DEFAULT_FACTORS: readonly FactorAxis[] = [1, 1.25, 1.5, 2, 'none'];

/** For a first look: one factor that binds and none, first come first served. */
export const QUICK: AxisFlags = {
  factors: '1.25,none',
  priorities: 'token-major',
  overflows: 'drop,next-best',
  scopes: 'request,sequence',
};

/**
 * Flags -> axes. `baseline` is the name of the rule that is no preset. Throws TURNOUT_PRESET_UNKNOWN,
 * TURNOUT_CAPACITY_INVALID or TURNOUT_OPTIONS_INVALID for what is no value of its axis.
 */
export function parseAxes(flags: AxisFlags, baseline: string | undefined): Axes {
  const known = [...(baseline === undefined ? [] : [baseline]), ...presetNames];
  const rules = list(flags.presets) ?? known;
  const wrong = rules.find((rule) => !known.includes(rule));
  if (wrong !== undefined) {
    const message = `--presets: expected names of ${known.join(', ')}, got "${wrong}"`;
    throw new TurnoutError('TURNOUT_PRESET_UNKNOWN', message, { name: wrong, presets: known });
  }
  return {
    rules,
    factors: list(flags.factors)?.map(parseFactor) ?? DEFAULT_FACTORS,
    priorities: among('--priorities', flags.priorities, PRIORITIES),
    overflows: among('--overflows', flags.overflows, OVERFLOWS),
    scopes: among('--scopes', flags.scopes, SCOPES),
  };
}

function list(text: string | undefined): string[] | undefined {
  return text === undefined ? undefined : [...new Set(text.split(',').map((part) => part.trim()))];
}

function parseFactor(text: string): FactorAxis {
  if (text === 'none' || text === 'dropless') return 'none';
  const factor = Number(text);
  if (text !== '' && Number.isFinite(factor) && factor > 0) return factor;
  const message = `--factors: expected numbers above 0, or none, got "${text}"`;
  throw new TurnoutError('TURNOUT_CAPACITY_INVALID', message, { got: text });
}

function among<T extends string>(flag: string, text: string | undefined, values: readonly T[]): readonly T[] {
  const chosen = list(text);
  const wrong = chosen?.find((value) => !(values as readonly string[]).includes(value));
  if (wrong === undefined) return (chosen as T[] | undefined) ?? values;
  const message = `${flag}: expected some of ${values.join(', ')}, got "${wrong}"`;
  throw new TurnoutError('TURNOUT_OPTIONS_INVALID', message, { got: wrong, values });
}
