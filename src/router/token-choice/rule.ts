import type { Choice } from '../finish.js';
import { once } from '../lazy.js';
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
  const { logits, scores, scoresOf } = scored;
  const { expert, reason, ranking } = select(options, scored, input, rows);
  const chosen = once(() => scoresOf(expert, choices));
  const weighAgain = (of: Int32Array) =>
    weigh(options.weigh, { expert: of, choices, logits, scores: () => scoresOf(of, choices) });
  const selection: Selection = {
    tokens: logits.rows,
    experts: logits.cols,
    choices,
    expert,
    reason,
    ranking,
    score: chosen,
    weight: weigh(options.weigh, { expert, choices, logits, scores: chosen }),
    scores,
    badRows: rows.badRows,
  };
  return { selection, weighAgain, scoresOf: (of) => scoresOf(of, choices) };
}
