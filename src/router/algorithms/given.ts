import { type Static, Type } from 'typebox';
import { TurnoutError } from '../../errors.js';
import type { Matrix } from '../../tensor.js';
import type { Choice } from '../finish.js';
import type { RouterInput } from '../routing.js';
import type { Rows } from '../rows.js';
import { AdmitOptions, Choices, RenormaliseOptions, record, Seed } from '../stage-options.js';
import { choiceOf, scoreRows } from './choice.js';

export const GivenOptions = record(
  {
    algorithm: Type.Literal('given'),
    k: Choices,
    admit: Type.Optional(AdmitOptions),
    renormalise: Type.Optional(RenormaliseOptions),
    seed: Type.Optional(Seed),
  },
  'Replays recorded experts and weights.',
);
export type GivenOptions = Static<typeof GivenOptions>;

/**
 * The experts and weights that come with the call, as they are. Overflow to the next-best expert ranks by logit and takes
 * the recorded weight along. Throws TURNOUT_INPUT_INVALID without a record, or for one with an expert outside 0..E-1 or
 * forbidden by the logits, twice the same expert for a token, or a weight that is not finite; TURNOUT_SHAPE_MISMATCH for
 * another length than T * K.
 */
export function given({ k }: GivenOptions, input: RouterInput, rows: Rows): Choice {
  const { experts, weights } = checkRecord(input, k);
  const expert = experts.map((e, a) => (rows.bad[Math.floor(a / k)] === 0 ? e : -1));
  checkAllowed(expert, k, input.logits);
  const weighAgain = (of: Int32Array) => Float32Array.from(of, (e, a) => (e < 0 ? 0 : weights[a]));
  return choiceOf(
    { input, rows, k },
    { expert, scores: scoreRows('softmax', input, rows), ranking: input.logits, weighAgain },
  );
}

type Recorded = NonNullable<RouterInput['given']>;

function checkRecord({ given: recorded, logits }: RouterInput, k: number): Recorded {
  const T = logits.rows;
  if (!recorded) {
    if (T === 0) return { experts: new Int32Array(0), weights: new Float32Array(0) };
    throw new TurnoutError(
      'TURNOUT_INPUT_INVALID',
      `replay: expected given experts and weights [T, K] = [${T}, ${k}], got none`,
    );
  }
  const { experts, weights } = recorded;
  if (experts.length !== T * k || weights.length !== T * k) {
    const message = `given: expected [T, K] = [${T}, ${k}], got ${experts.length} experts and ${weights.length} weights`;
    throw new TurnoutError('TURNOUT_SHAPE_MISMATCH', message, {
      T,
      k,
      experts: experts.length,
      weights: weights.length,
    });
  }
  for (let a = 0; a < experts.length; a++) {
    const wrong = problemOf(recorded, a, { k, logits });
    if (wrong) {
      const token = Math.floor(a / k);
      throw new TurnoutError('TURNOUT_INPUT_INVALID', `given, token ${token}, choice ${a % k}: ${wrong}`, {
        token,
        choice: a % k,
      });
    }
  }
  return recorded;
}

function problemOf(
  { experts, weights }: Recorded,
  a: number,
  { k, logits }: { k: number; logits: Matrix },
): string | undefined {
  const expert = experts[a];
  if (!Number.isFinite(weights[a])) return `expected a finite weight, got ${weights[a]}`;
  if (expert === -1) return undefined;
  if (expert < 0 || expert >= logits.cols) {
    return `expected an expert from 0 to ${logits.cols - 1}, or -1 for none, got ${expert}`;
  }
  const earlier = experts.subarray(a - (a % k), a);
  return earlier.includes(expert) ? `expected distinct experts, got ${expert} twice` : undefined;
}

/** A record that goes where the logits forbid is not of these logits. */
function checkAllowed(expert: Int32Array, k: number, { data, cols }: Matrix): void {
  const a = expert.findIndex((e, i) => e >= 0 && data[Math.floor(i / k) * cols + e] === -Infinity);
  if (a < 0) return;
  const [token, choice] = [Math.floor(a / k), a % k];
  const message = `given, token ${token}, choice ${choice}: expected an expert that the logits allow, got ${expert[a]}, whose logit is -infinity`;
  throw new TurnoutError('TURNOUT_INPUT_INVALID', message, { token, choice, expert: expert[a] });
}
