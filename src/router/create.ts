import { causality } from './causality.js';
import { checkCombination } from './combination.js';
import { finish } from './finish.js';
import { parseOptions, type RouterOptions } from './options.js';
import type { Router, RouterInput, Routing } from './routing.js';
import { readRows } from './rows.js';
import { tokenChoice } from './token-choice/rule.js';

/**
 * A router over `experts` experts, zero-computation ones included.
 * Throws TURNOUT_OPTIONS_INVALID, TURNOUT_EXPERTS_INVALID (E = 0, groups that do not divide E), TURNOUT_CHOICES_INVALID
 * (k outside 1..E) and TURNOUT_CAPACITY_INVALID, each with the numbers; `route` throws only for shapes.
 */
export function createRouter(options: RouterOptions, experts: number): Router {
  const checked = structuredClone(parseOptions(options));
  checkCombination(checked, experts);
  const { zero = 0, copy = 0, constant = 0 } = checked.zeroComputation ?? {};
  return {
    experts,
    computed: experts - zero - copy - constant,
    zeroComputation: { zero, copy, constant },
    choices: checked.select.k,
    ...causality(checked),
    route: (input) => routeTokens(checked, experts, input),
  };
}

function routeTokens(options: RouterOptions, experts: number, input: RouterInput): Routing {
  const rows = readRows(input, experts, options.select.k);
  return finish(tokenChoice(options, input, rows), { ...options, ...options.weigh }, { input, rows });
}
