import { capacityOf } from '../../src/router/capacity.js';
import { choicesOf, type RouterOptions } from '../../src/router/options.js';
import type { AdmitLimit, AdmitOptions } from '../../src/router/stage-options.js';

/** What a rule is used on. */
export interface Use {
  readonly experts: number;
  /** Most tokens that may compete in a sequence, and in a call. */
  readonly longest: { readonly sequence: number; readonly call: number };
  /** Of the sweep: which it is makes no other rule. */
  readonly seed: number;
}

type Json = Record<string, unknown>;

const DEFAULTS: Readonly<Record<string, Json>> = {
  weigh: { scale: 1, on: 'output' },
  select: { ties: 'lower' },
};

/** Options -> text that is equal for rules that decide alike: defaults left out, capacities that nothing can reach too. */
export function canonical(options: RouterOptions, use: Use): string {
  const plain: Json = { ...options };
  if (plain.seed === use.seed) delete plain.seed;
  if (plain.renormalise === 'never') delete plain.renormalise;
  for (const [stage, defaults] of Object.entries(DEFAULTS)) {
    if (plain[stage]) plain[stage] = without(plain[stage] as Json, defaults);
  }
  const select = plain.select as Json | undefined;
  if ((select?.later as Json | undefined)?.rule === 'always') delete select!.later;
  if (options.algorithm === 'sinkhorn' || options.algorithm === 'expert-choice') plain.scope ??= 'sequence';
  if (options.algorithm !== 'expert-choice') {
    delete plain.admit;
    const admit = effectiveAdmit(options.admit ?? 'none', choicesOf(options, use.experts), use);
    if (admit !== 'none') plain.admit = admit;
  }
  return JSON.stringify(sorted(plain));
}

function without(record: Json, defaults: Json): Json {
  return Object.fromEntries(Object.entries(record).filter(([key, value]) => defaults[key] !== value));
}

/** Keys in one order, at every depth. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value) || value === null || typeof value !== 'object') return value;
  const keys = Object.keys(value).sort();
  return Object.fromEntries(keys.map((key) => [key, sorted((value as Json)[key])]));
}

/** The capacity with all its defaults written out; none where no expert can be full, whoever comes. */
function effectiveAdmit(admit: AdmitOptions, choices: number, use: Use): AdmitOptions {
  if (admit === 'none' || isOutOfReach(admit, choices, use)) return 'none';
  const { priority = 'token-major', overflow = 'drop', scope = 'request' } = admit;
  // With one choice each, all are first ones.
  const order = choices === 1 && priority === 'k-major' ? 'token-major' : priority;
  if ('capacity' in admit) return { ...admit, formula: 'fixed', priority: order, overflow, scope };
  const { formula = 'megatron' } = admit;
  const minimum = admit.minimum ?? (['flaxformer', 'mesh', 'deepspeed'].includes(formula) ? 4 : 0);
  return { ...admit, formula, minimum, priority: order, overflow, scope };
}

/** n tokens choose an expert at most n times. */
function isOutOfReach(limit: AdmitLimit, choices: number, { experts, longest }: Use): boolean {
  const most = limit.scope === 'call' ? longest.call : longest.sequence;
  for (let n = 1; n <= most; n++) if (capacityOf(limit, n, experts, choices) < n) return false;
  return true;
}
