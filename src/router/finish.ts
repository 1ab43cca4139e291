import { type Admission, admit } from './admit.js';
import { renormalise } from './renormalise.js';
import type { RouterInput, Routing, Selection } from './routing.js';
import type { Rows } from './rows.js';
import type { AdmitOptions, RenormaliseOptions } from './stage-options.js';

/** What a rule chose, and how it weighs other experts where overflow moved tokens to them. */
export interface Choice {
  readonly selection: Selection;
  /** Experts [T * K] -> their weights before drops. */
  weighAgain(expert: Int32Array): Float32Array;
}

/** The options of the stages after choosing. */
export interface LastStages {
  readonly admit?: AdmitOptions;
  readonly renormalise?: RenormaliseOptions;
  /** What renormalised weights sum to; 1 where left out. */
  readonly scale?: number;
  readonly on?: Routing['weightsOn'];
  readonly seed?: number;
}

/** The stages that all rules share: admit, then renormalise. */
export function finish(
  { selection, weighAgain }: Choice,
  stages: LastStages,
  call: { input: RouterInput; rows: Rows },
): Routing {
  const { seed, on = 'output', scale = 1, renormalise: when = 'never' } = stages;
  const admission = admit(selection, stages.admit ?? 'none', {
    ...call,
    ...(seed !== undefined && { seed }),
  });
  const before = admission.moved ? weighAgain(admission.expert) : selection.weight;
  const weight = renormalise(before, admission.reason, selection.choices, { when, scale });
  return { ...compact(selection, admission, weight), logits: call.input.logits, weightsOn: on };
}

/** The score of each choice [T * K]; 0 where there is none. */
export function scoresOf(
  scores: Float32Array,
  expert: Int32Array,
  experts: number,
  choices: number,
): Float32Array {
  return Float32Array.from(expert, (e, a) => (e < 0 ? 0 : scores[Math.floor(a / choices) * experts + e]));
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
