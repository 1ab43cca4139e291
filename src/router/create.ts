import { type ExpertChoiceOptions, expertChoice } from './algorithms/expert-choice.js';
import { given } from './algorithms/given.js';
import { hash } from './algorithms/hash.js';
import { sinkhorn } from './algorithms/sinkhorn.js';
import { sparseMixer } from './algorithms/sparse-mixer.js';
import { causality } from './causality.js';
import { checkCombination } from './combination.js';
import { type Choice, finish } from './finish.js';
import { choicesOf, parseOptions, type RouterOptions, zeroComputationOf } from './options.js';
import type { Router, RouterInput } from './routing.js';
import { type Rows, readRows } from './rows.js';
import { tokenChoice } from './token-choice/rule.js';

/**
 * A router over `experts` experts, zero-computation ones included.
 * Throws TURNOUT_OPTIONS_INVALID, TURNOUT_EXPERTS_INVALID (E = 0, groups that do not divide E), TURNOUT_CHOICES_INVALID
 * (k outside 1..E) and TURNOUT_CAPACITY_INVALID, each with the numbers; `route` throws only for shapes.
 */
export function createRouter(options: RouterOptions, experts: number): Router {
  const checked = structuredClone(parseOptions(options));
  checkCombination(checked, experts);
  const { zero = 0, copy = 0, constant = 0 } = zeroComputationOf(checked);
  const choices = choicesOf(checked, experts);
  return {
    experts,
    computed: experts - zero - copy - constant,
    zeroComputation: { zero, copy, constant },
    choices,
    ...causality(checked),
    route: routeBy(checked, experts, choices),
  };
}

function routeBy(options: RouterOptions, experts: number, choices: number): Router['route'] {
  if (options.algorithm === 'expert-choice') {
    return (input) => expertChoice(options, input, readRows(input, experts, choices));
  }
  const stages = options.algorithm === 'token-choice' ? { ...options, ...options.weigh } : options;
  return (input) => {
    const rows = readRows(input, experts, choices);
    return finish(choose(options, input, rows), stages, { input, rows });
  };
}

function choose(
  options: Exclude<RouterOptions, ExpertChoiceOptions>,
  input: RouterInput,
  rows: Rows,
): Choice {
  switch (options.algorithm) {
    case 'token-choice':
      return tokenChoice(options, input, rows);
    case 'sinkhorn':
      return sinkhorn(options, input, rows);
    case 'hash':
      return hash(options, input, rows);
    case 'sparse-mixer':
      return sparseMixer(options, input, rows);
    case 'given':
      return given(options, input, rows);
  }
}
