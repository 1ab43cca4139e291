import { createRouter } from '../router/create.js';
import {
  mergeOptions,
  type RouterOptions,
  type RouterOverrides,
  type Shortcuts,
  withShortcuts,
  zeroComputationOf,
} from '../router/options.js';
import { presetOptions } from '../router/presets.js';
import type { Router } from '../router/routing.js';
import type { LayerEntry } from './manifest.js';

/** A rule by name with options over it, then k and the capacity factor; the rule of the package where no name is given. */
export interface RouterChoice extends Shortcuts {
  readonly preset?: string;
  readonly options?: RouterOverrides;
}

/** The options of a package's layer, with `choice` over the manifest's: a preset replaces them, options change single stages. */
export function layerOptions(layer: LayerEntry, choice: RouterChoice = {}): RouterOptions {
  return withShortcuts(chosenOptions(layer, choice), choice);
}

function chosenOptions({ router }: LayerEntry, { preset, options }: RouterChoice): RouterOptions {
  if (preset !== undefined) return presetOptions(preset, options);
  const own = presetOptions(router.preset, router.options);
  return options === undefined ? own : mergeOptions(own, options);
}

/** A router over `files` experts and the zero-computation experts of the options. */
export function routerOver(options: RouterOptions, files: number): Router {
  const { zero = 0, copy = 0, constant = 0 } = zeroComputationOf(options);
  return createRouter(options, files + zero + copy + constant);
}
