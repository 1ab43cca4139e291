import type { RouterOptions } from '../../src/router/options.js';
import type { Router, RouterInput, Routing } from '../../src/router/routing.js';
import type { LayerCost } from './cost.js';

/** Stages of the token path whose times are told, in its order; trunk: the dense parts between the layers. */
export const STAGES = ['trunk', 'gate', 'route', 'dispatch', 'transport', 'compute', 'combine'] as const;
export type Stage = (typeof STAGES)[number];

/** The same rule for all layers, or one for each. */
export interface Rule {
  /** [L] */
  readonly options: readonly RouterOptions[];
  /** [L] */
  readonly routers: readonly Router[];
}

/** One sequence of a call. In a text each token stands for the byte that it foretells. */
export interface SequenceRun {
  readonly domain: string;
  readonly tokens: number;
  /** What the model paid for the bytes of the sequence; null where there is no model. */
  readonly bits: number | null;
}

export interface LayerRun {
  readonly routing: Routing;
  /** What was routed beside the logits: with it the same call can be routed by another rule. */
  readonly input: Omit<RouterInput, 'logits'>;
  /** Milliseconds. */
  readonly stages: Partial<Record<Stage, number>>;
}

/** What one call came to under a rule. */
export interface CallRun {
  readonly sequences: readonly SequenceRun[];
  readonly layers: readonly LayerRun[];
  readonly trunkMs?: number;
}

export interface LayerShape {
  readonly name: string;
  /** Columns of its logits. */
  readonly experts: number;
}

/** What is routed: a text through a package, a recording, or made-up logits; cut into calls of some sequences. */
export interface Source {
  /** For people and reports: what it is, and all that its figures depend on. */
  readonly description: Readonly<Record<string, unknown>> & { readonly kind: string };
  readonly layers: readonly LayerShape[];
  /** Whether a model computes, so that quality is known. */
  readonly hasModel: boolean;
  /** Whether the model generates token by token: rules that look ahead are no choice for it then. */
  readonly causal: boolean;
  /** What the others are compared with: the rule that the model was trained with, or what was recorded. */
  readonly baseline: { readonly name: string; readonly options: readonly RouterOptions[] } | undefined;
  /** [L]; undefined where the sizes of the experts are not known. */
  readonly costs: readonly LayerCost[] | undefined;
  /** Most tokens of a sequence, and of a call. */
  readonly longest: { readonly sequence: number; readonly call: number };
  readonly calls: number;
  /** The router of one layer. Throws a coded error where the options do not fit its experts. */
  routerOf(options: RouterOptions, layer: number): Router;
  run(call: number, rule: Rule, signal?: AbortSignal): Promise<CallRun>;
  close(): Promise<void>;
}
