import { createRouter } from '../router/create.js';
import { mergeOptions, type RouterOptions, type RouterOverrides } from '../router/options.js';
import { presetOptions } from '../router/presets.js';
import type { Router } from '../router/routing.js';
import type { LayerEntry } from './manifest.js';

/** A rule by name with options over it, or the options of a whole rule. */
export interface RouterChoice {
  readonly preset?: string;
  readonly options?: RouterOverrides;
}

/** The options of a package's layer, with `choice` over the manifest's: a preset replaces them, options change single stages. */
export function layerOptions(layer: LayerEntry, choice: RouterChoice = {}): RouterOptions {
  if (choice.preset !== undefined) return presetOptions(choice.preset, choice.options);
  const own = presetOptions(layer.router.preset, layer.router.options);
  return choice.options === undefined ? own : mergeOptions(own, choice.options);
}

/** A router over `files` experts and the zero-computation experts of the options. */
export function routerOver(options: RouterOptions, files: number): Router {
  const {
    zero = 0,
    copy = 0,
    constant = 0,
  } = ('zeroComputation' in options && options.zeroComputation) || {};
  return createRouter(options, files + zero + copy + constant);
}
