import { type Matrix, row, zeros } from '../../tensor.js';
import type { Choice } from '../finish.js';
import type { RouterInput } from '../routing.js';
import type { Rows } from '../rows.js';
import { pickScores } from '../scores.js';
import { softmax } from '../token-choice/score.js';

/** logits [T, E] -> softmax or sigmoid of each row; bad rows score 0 everywhere. */
export function scoreRows(kind: 'softmax' | 'sigmoid', { logits }: RouterInput, rows: Rows): Matrix {
  const scores = zeros(logits.rows, logits.cols);
  for (let t = 0; t < logits.rows; t++) {
    if (rows.bad[t] !== 0) continue;
    if (kind === 'softmax') softmax(row(logits, t), row(scores, t));
    else row(scores, t).set(row(logits, t).map((x) => 1 / (1 + Math.exp(-x))));
  }
  return scores;
}

/** The `k` best columns of row `t` by `ranking`, -infinity never; ties to the lower index. Writes into `expert` [T * k]. */
export function takeBest(ranking: Matrix, t: number, k: number, expert: Int32Array): void {
  const values = row(ranking, t);
  for (let c = 0; c < k; c++) {
    let best = -1;
    for (let e = 0; e < values.length; e++) {
      if (values[e] === -Infinity || isTaken(expert, t * k, c, e)) continue;
      if (best < 0 || values[e] > values[best]) best = e;
    }
    if (best < 0) return;
    expert[t * k + c] = best;
  }
}

function isTaken(expert: Int32Array, from: number, count: number, e: number): boolean {
  for (let a = from; a < from + count; a++) if (expert[a] === e) return true;
  return false;
}

/** What a rule has chosen, put into the form that the shared stages take. */
export function choiceOf(
  { input, rows, k }: { input: RouterInput; rows: Rows; k: number },
  chosen: { expert: Int32Array; scores: Matrix; ranking: Matrix; weighAgain: Choice['weighAgain'] },
): Choice {
  const { rows: tokens, cols: experts } = input.logits;
  const { expert, scores, ranking, weighAgain } = chosen;
  const selection = {
    tokens,
    experts,
    choices: k,
    expert,
    reason: new Uint8Array(tokens * k),
    ranking,
    score: () => pickScores(scores, expert, k),
    weight: weighAgain(expert),
    scores,
    badRows: rows.badRows,
  };
  return { selection, weighAgain, scoresOf: (of) => pickScores(scores, of, k) };
}

/** [T, E] of -infinity. */
export function nowhere(rows: number, cols: number): Matrix {
  const m = zeros(rows, cols);
  m.data.fill(-Infinity);
  return m;
}
