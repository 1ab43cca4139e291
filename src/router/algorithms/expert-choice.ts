import { type Static, Type } from 'typebox';
import type { Matrix } from '../../tensor.js';
import type { CapacityGroup, RequestState, RouterInput, Routing } from '../routing.js';
import type { Rows, Span } from '../rows.js';
import { Factor, record, WholeScope } from '../stage-options.js';
import { scoreRows } from './choice.js';

export const ExpertChoiceOptions = record(
  {
    algorithm: Type.Literal('expert-choice'),
    score: Type.Enum(['softmax', 'sigmoid'], {
      description: 'Logits -> scores; softmax over the experts of a token.',
    }),
    factor: Factor,
    scope: Type.Optional(WholeScope),
  },
  'Each expert takes its best tokens.',
);
export type ExpertChoiceOptions = Static<typeof ExpertChoiceOptions>;

interface Taken {
  readonly token: number;
  readonly expert: number;
  readonly slot: number;
  readonly score: number;
}

/**
 * Expert choice (Zhou et al. 2022, section 3.2): S = softmax(logits); each expert takes the C = factor * n / E tokens of a
 * group that score best for it (rounded down, from 1 to n), weighed by S. Ties go to the earlier token. A token may
 * have from 0 to E experts, its choices by falling score. Never causal; a token that no expert takes is not dropped.
 */
export function expertChoice(options: ExpertChoiceOptions, input: RouterInput, rows: Rows): Routing {
  const { logits } = input;
  const scores = scoreRows(options.score, input, rows);
  const whole = { start: 0, length: logits.rows };
  const competing = options.scope === 'call' ? [whole] : rows.spans;
  const groups: CapacityGroup[] = competing.map(({ start, length }) => ({
    start,
    length,
    capacity: Math.min(length, Math.max(1, Math.floor((options.factor * length) / logits.cols))),
  }));
  const taken = groups.flatMap((group) => takeGroup(group, { logits, scores, rows }));
  taken.sort((a, b) => a.token - b.token || b.score - a.score || a.expert - b.expert);
  const score = Float32Array.from(taken, (a) => a.score);
  return {
    tokens: logits.rows,
    experts: logits.cols,
    choices: logits.cols,
    token: Int32Array.from(taken, (a) => a.token),
    choice: choicesOf(taken),
    expert: Int32Array.from(taken, (a) => a.expert),
    score,
    weight: score.slice(),
    slot: Int32Array.from(taken, (a) => a.slot),
    reason: new Uint8Array(taken.length),
    scores,
    logits,
    weightsOn: 'output',
    groups,
    states: rows.spans.map((span) => nextState(span, taken)),
    badRows: rows.badRows,
  };
}

function takeGroup(
  { start, length, capacity }: CapacityGroup,
  { logits, scores, rows }: { logits: Matrix; scores: Matrix; rows: Rows },
): Taken[] {
  const E = logits.cols;
  const open = Array.from({ length }, (_, i) => start + i).filter((t) => rows.bad[t] === 0);
  return Array.from({ length: E }, (_, expert) => {
    const allowed = open.filter((t) => logits.data[t * E + expert] !== -Infinity);
    const scoreOf = (t: number) => scores.data[t * E + expert];
    const best = allowed.sort((a, b) => scoreOf(b) - scoreOf(a) || a - b).slice(0, capacity);
    return best.map((token, slot) => ({ token, expert, slot, score: scoreOf(token) }));
  }).flat();
}

/** Place of each assignment among those of its token; `taken` is sorted by token. */
function choicesOf(taken: readonly Taken[]): Int32Array {
  const choice = new Int32Array(taken.length);
  for (let a = 1; a < taken.length; a++)
    choice[a] = taken[a].token === taken[a - 1].token ? choice[a - 1] + 1 : 0;
  return choice;
}

function nextState({ start, length, state }: Span, taken: readonly Taken[]): RequestState {
  const kept = state.kept.slice();
  for (const { token, expert } of taken) if (token >= start && token < start + length) kept[expert]++;
  return { position: state.position + length, kept };
}
