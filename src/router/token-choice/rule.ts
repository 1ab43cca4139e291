import { type Choice, scoresOf } from '../finish.js';
import type { RouterInput, Selection } from '../routing.js';
import type { Rows } from '../rows.js';
import type { TokenChoiceOptions } from './options.js';
import { score } from './score.js';
import { select } from './select.js';
import { weigh } from './weigh.js';

/** The first three stages: score, select, weigh. */
export function tokenChoice(options: TokenChoiceOptions, input: RouterInput, rows: Rows): Choice {
  const choices = options.select.k;
  const scored = score(options.score, input, rows, options.seed);
  const { expert, reason, ranking } = select(options, scored, input, rows);
  const { rows: tokens, cols: experts } = input.logits;
  const weighAgain = (of: Int32Array) => weigh(options.weigh, scored, of, choices);
  const selection: Selection = {
    tokens,
    experts,
    choices,
    expert,
    reason,
    ranking,
    score: scoresOf(scored.scores.data, expert, experts, choices),
    weight: weighAgain(expert),
    scores: scored.scores,
    badRows: rows.badRows,
  };
  return { selection, weighAgain };
}
