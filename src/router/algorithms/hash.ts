import { type Static, Type } from 'typebox';
import { TurnoutError } from '../../errors.js';
import { row } from '../../tensor.js';
import type { Choice } from '../finish.js';
import { rowKey, uniform } from '../random.js';
import type { RouterInput } from '../routing.js';
import type { Rows } from '../rows.js';
import { AdmitOptions, Choices, record, Seed } from '../stage-options.js';
import { choiceOf, nowhere, scoreRows, takeBest } from './choice.js';

export const HashOptions = record(
  {
    algorithm: Type.Literal('hash'),
    k: Choices,
    admit: Type.Optional(AdmitOptions),
    seed: Type.Optional(Seed),
  },
  'Each token id has fixed experts, drawn once for each layer (Hash Layers).',
);
export type HashOptions = Static<typeof HashOptions>;

/**
 * Random hash of the token id (Roller et al. 2021, section 3.1): of all experts that the token may take, the k with the
 * largest hash of (seed, layer, token id, expert), each with weight 1 / k. Differs: the paper stores a table over the
 * vocabulary, and has k = 1. Logits are used for -infinity alone.
 * Throws TURNOUT_INPUT_INVALID without token ids.
 */
export function hash({ k, seed = 0 }: HashOptions, input: RouterInput, rows: Rows): Choice {
  const { logits, layer = 0 } = input;
  const tokenIds = input.tokenIds ?? new Int32Array(0);
  if (tokenIds.length !== logits.rows) {
    throw new TurnoutError(
      'TURNOUT_INPUT_INVALID',
      `hash routing: expected tokenIds [T] = [${logits.rows}], got none`,
      {
        expected: logits.rows,
      },
    );
  }
  const ranking = nowhere(logits.rows, logits.cols);
  const expert = new Int32Array(logits.rows * k).fill(-1);
  for (let t = 0; t < logits.rows; t++) {
    if (rows.bad[t] !== 0) continue;
    const key = rowKey({ seed, request: tokenIds[t], position: 0, layer, use: 'hash' });
    row(logits, t).forEach((logit, e) => {
      if (logit !== -Infinity) ranking.data[t * logits.cols + e] = uniform(key, e);
    });
    takeBest(ranking, t, k, expert);
  }
  const weighAgain = (of: Int32Array) => Float32Array.from(of, (e) => (e < 0 ? 0 : 1 / k));
  return choiceOf(
    { input, rows, k },
    { expert, scores: scoreRows('softmax', input, rows), ranking, weighAgain },
  );
}
