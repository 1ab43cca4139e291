import { TurnoutError } from '../../src/errors.js';
import { mergeOptions, type RouterOptions, withShortcuts } from '../../src/router/options.js';
import { presetOptions } from '../../src/router/presets.js';
import type { Axes, FactorAxis } from './axes.js';
import { canonical } from './canonical.js';
import type { Rule, Source } from './source.js';

/** One rule with one capacity: a row of the results. */
export interface Combination extends Rule {
  /** Equal for rules that decide alike; the key of a row. */
  readonly id: string;
  readonly name: string;
  /** Other rules of the sweep that decide the same here. */
  readonly alsoKnownAs: readonly string[];
  /** How many combinations of the sweep decide the same, this one among them. */
  readonly alike: number;
  /** As the preset has it, or as the sweep wrote it. */
  readonly capacity: 'own' | 'swept';
  readonly factor: FactorAxis | 'fixed';
  readonly priority: string;
  readonly overflow: string;
  readonly scope: string;
  readonly choices: number;
  readonly causal: boolean;
  readonly notCausalBecause?: string;
}

export interface Changes {
  /** Choices per token, of all rules but expert choice. */
  readonly k?: number | undefined;
  /** Keys random numbers; options without a place for one take 0. */
  readonly seed: number;
}

export interface Combinations {
  readonly all: Combination[];
  /** How many were looked at, and how many of these cannot be. */
  readonly tried: number;
  readonly refused: number;
}

/**
 * Every combination that can be, each once: the rules as they are, then each with every capacity. What createRouter
 * refuses is left out. Noise is left out too: the cited models add it in training alone.
 */
export function combinationsOf(source: Source, axes: Axes, changes: Changes): Combinations {
  const found = new Map<string, Found>();
  let tried = 0;
  let refused = 0;
  const add = (name: string, capacity: Combination['capacity'], make: (layer: number) => RouterOptions) => {
    tried++;
    const made = attempt(() => combine({ source, seed: changes.seed }, name, capacity, make));
    if (!made) {
      refused++;
      return;
    }
    const known = found.get(made.id);
    if (!known) found.set(made.id, { ...made, alsoKnownAs: [], alike: 1 });
    else known.alike++;
    if (known && known.name !== name && !known.alsoKnownAs.includes(name)) known.alsoKnownAs.push(name);
  };
  const ruleOf = (name: string) => (layer: number) => baseOptions(source, name, layer, changes);
  for (const name of axes.rules) add(name, 'own', ruleOf(name));
  for (const name of axes.rules) {
    for (const admit of capacities(axes))
      add(name, 'swept', (layer) => withCapacity(ruleOf(name)(layer), admit));
  }
  return { all: [...found.values()], tried, refused };
}

type Found = Omit<Combination, 'alsoKnownAs' | 'alike'> & { alsoKnownAs: string[]; alike: number };

/** The rule that others are compared with, as it is. */
export function baselineOf(source: Source, changes: Changes): Combination | undefined {
  const { baseline } = source;
  if (!baseline) return undefined;
  // Never with another k: it is what was trained, or recorded.
  const own = { ...changes, k: undefined };
  const make = (layer: number) => baseOptions(source, baseline.name, layer, own);
  const made = combine({ source, seed: changes.seed }, baseline.name, 'own', make);
  return { ...made, alsoKnownAs: [], alike: 1 };
}

/** What a coded error refuses does not exist here; other errors are thrown on. */
function attempt<T>(make: () => T): T | undefined {
  try {
    return make();
  } catch (error) {
    if (error instanceof TurnoutError) return undefined;
    throw error;
  }
}

function combine(
  { source, seed }: { source: Source; seed: number },
  name: string,
  capacity: Combination['capacity'],
  make: (layer: number) => RouterOptions,
): Omit<Combination, 'alsoKnownAs' | 'alike'> {
  const options = source.layers.map((_, layer) => make(layer));
  const routers = options.map((own, layer) => source.routerOf(own, layer));
  const texts = options.map((own, layer) =>
    canonical(own, { experts: source.layers[layer]!.experts, longest: source.longest, seed }),
  );
  const acausal = routers.find(({ causal }) => !causal);
  return {
    id: texts.every((text) => text === texts[0]) ? texts[0]! : texts.join('\n'),
    name,
    capacity,
    ...admitOf(options[0]!),
    choices: routers[0]!.choices,
    causal: acausal === undefined,
    ...(acausal?.notCausalBecause !== undefined && { notCausalBecause: acausal.notCausalBecause }),
    options,
    routers,
  };
}

/** The rule of a name without noise and with the seed of the sweep; one that comes with a seed of its own, as models do, stays as it is. */
function baseOptions(source: Source, name: string, layer: number, { k, seed }: Changes): RouterOptions {
  const own = source.baseline?.name === name ? source.baseline.options[layer]! : presetOptions(name);
  const { algorithm } = own;
  const chosen = algorithm === 'expert-choice' || algorithm === 'given' ? own : withShortcuts(own, { k });
  if (algorithm === 'expert-choice' || algorithm === 'sinkhorn' || 'seed' in chosen) return chosen;
  return mergeOptions(chosen, algorithm === 'token-choice' ? { score: { noise: null }, seed } : { seed });
}

type Capacity = Pick<Combination, 'priority' | 'overflow' | 'scope'> & { readonly factor: FactorAxis };

function* capacities({ factors, priorities, overflows, scopes }: Axes): Generator<Capacity> {
  for (const factor of factors) {
    for (const scope of scopes) {
      for (const priority of priorities) {
        for (const overflow of overflows) yield { factor, priority, overflow, scope };
      }
    }
  }
}

/** Throws a coded error where the rule has no such capacity. */
function withCapacity(options: RouterOptions, { factor, ...competition }: Capacity): RouterOptions {
  const { scope } = competition;
  if (options.algorithm === 'given') throw refused('what was recorded has its capacity');
  if (options.algorithm === 'expert-choice') {
    // Its experts take what they want: there is no order and no overflow.
    if (competition.priority !== 'token-major' || competition.overflow !== 'drop')
      throw refused('expert choice has no order');
    return mergeOptions(options, { factor, scope });
  }
  const balanced =
    options.algorithm === 'sinkhorn'
      ? mergeOptions(options, { scope: scope === 'call' ? 'call' : 'sequence' })
      : options;
  return mergeOptions(balanced, { admit: factor === 'none' ? 'none' : { factor, ...competition } });
}

function refused(message: string): TurnoutError {
  return new TurnoutError('TURNOUT_OPTIONS_INVALID', message);
}

/** The capacity of a rule in four words; '-' where it has no such thing. */
function admitOf(options: RouterOptions): Pick<Combination, 'factor' | 'priority' | 'overflow' | 'scope'> {
  if (options.algorithm === 'expert-choice') {
    const { factor, scope = 'sequence' } = options;
    return { factor, priority: '-', overflow: '-', scope };
  }
  const own = options.algorithm === 'sinkhorn' ? (options.scope ?? 'sequence') : '-';
  const admit = options.admit ?? 'none';
  if (admit === 'none') return { factor: 'none', priority: '-', overflow: '-', scope: own };
  const { priority = 'token-major', overflow = 'drop', scope = 'request' } = admit;
  return { factor: 'capacity' in admit ? 'fixed' : admit.factor, priority, overflow, scope };
}
