import { TurnoutError } from '../errors.js';
import {
  mergeOptions,
  type OptionsOf,
  type OverridesOf,
  type RouterOptions,
  type RouterOverrides,
} from './options.js';
import { CHECKPOINT_PRESETS } from './presets/checkpoints.js';
import { PAPER_PRESETS } from './presets/papers.js';

/** Every preset is plain options, so it can be printed, stored and changed stage by stage. */
const PRESETS = { ...PAPER_PRESETS, ...CHECKPOINT_PRESETS } satisfies Record<string, RouterOptions>;

export type PresetName = keyof typeof PRESETS;
type AlgorithmOf<N extends PresetName> = (typeof PRESETS)[N]['algorithm'];

export const presetNames: readonly PresetName[] = Object.freeze(Object.keys(PRESETS) as PresetName[]);

/**
 * The options of a preset with `overrides` laid over them, stage by stage and key by key; null takes a key away, and
 * `admit: 'none'` the capacity. Throws TURNOUT_PRESET_UNKNOWN, and what parseOptions throws.
 */
export function presetOptions<N extends PresetName>(
  name: N,
  overrides?: OverridesOf<AlgorithmOf<N>>,
): OptionsOf<AlgorithmOf<N>>;
export function presetOptions(name: string, overrides?: RouterOverrides): RouterOptions;
export function presetOptions(name: string, overrides: RouterOverrides = {}): RouterOptions {
  if (!Object.hasOwn(PRESETS, name)) {
    throw new TurnoutError(
      'TURNOUT_PRESET_UNKNOWN',
      `preset: expected one of ${presetNames.join(', ')}, got "${name}"`,
      { name, presets: presetNames },
    );
  }
  return mergeOptions(structuredClone(PRESETS[name as PresetName]), overrides);
}
