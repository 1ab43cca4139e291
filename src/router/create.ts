import { type Admission, admit } from './admit.js';
import { causality } from './causality.js';
import { checkCombination } from './combination.js';
import { parseOptions, type RouterOptions } from './options.js';
import { renormalise } from './renormalise.js';
import type { Router, RouterInput, Routing, Selection } from './routing.js';
import { readRows } from './rows.js';
import { scoresOf, tokenChoice } from './token-choice/rule.js';

/**
 * A router over `experts` experts, zero-computation ones included.
 * Throws TURNOUT_OPTIONS_INVALID, TURNOUT_EXPERTS_INVALID (E = 0, groups that do not divide E), TURNOUT_CHOICES_INVALID
 * (k outside 1..E) and TURNOUT_CAPACITY_INVALID, each with the numbers; `route` throws only for shapes.
 */
export function createRouter(options: RouterOptions, experts: number): Router {
  const checked = parseOptions(options);
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
  const { selection, weighAgain } = tokenChoice(options, input, rows);
  const admission = admit(selection, options.admit ?? 'none', { input, rows, ...seedOf(options) });
  const before = admission.moved ? weighAgain(admission.expert) : selection.weight;
  const weight = renormalise(before, admission.reason, selection.choices, {
    when: options.renormalise ?? 'never',
    scale: options.weigh.scale ?? 1,
  });
  return {
    ...compact(selection, admission, weight),
    logits: input.logits,
    weightsOn: options.weigh.on ?? 'output',
  };
}

function seedOf({ seed }: RouterOptions): { seed?: number } {
  return seed === undefined ? {} : { seed };
}

/** Leaves out the places [T * K] where a token made no choice. */
function compact(
  selection: Selection,
  admission: Admission,
  weight: Float32Array,
): Omit<Routing, 'logits' | 'weightsOn'> {
  const { tokens, experts, choices, scores, badRows } = selection;
  const { expert, slot, reason, groups, states } = admission;
  const score = admission.moved ? scoresOf(scores.data, expert, experts, choices) : selection.score;
  const places = Int32Array.from(expert.keys()).filter((a) => expert[a] >= 0);
  return {
    tokens,
    experts,
    choices,
    token: places.map((a) => Math.floor(a / choices)),
    choice: places.map((a) => a % choices),
    expert: places.map((a) => expert[a]),
    score: Float32Array.from(places, (a) => score[a]),
    weight: Float32Array.from(places, (a) => weight[a]),
    slot: places.map((a) => slot[a]),
    reason: Uint8Array.from(places, (a) => reason[a]),
    scores,
    groups,
    states,
    badRows,
  };
}
