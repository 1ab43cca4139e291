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
  const of = new Float32Array(expert.length);
  for (let a = 0; a < expert.length; a++) {
    if (expert[a] >= 0) of[a] = scores[Math.floor(a / choices) * experts + expert[a]];
  }
  return of;
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
  const places = placesOf(expert);
  return {
    tokens,
    experts,
    choices,
    token: places.map((a) => Math.floor(a / choices)),
    choice: places.map((a) => a % choices),
    expert: pick(expert, places, new Int32Array(places.length)),
    score: pick(score, places, new Float32Array(places.length)),
    weight: pick(weight, places, new Float32Array(places.length)),
    slot: pick(slot, places, new Int32Array(places.length)),
    reason: pick(reason, places, new Uint8Array(places.length)),
    scores,
    groups,
    states,
    badRows,
  };
}

/** Where a token made a choice, in order. */
function placesOf(expert: Int32Array): Int32Array {
  const places = new Int32Array(expert.length);
  let count = 0;
  for (let a = 0; a < expert.length; a++) if (expert[a] >= 0) places[count++] = a;
  return places.subarray(0, count);
}

/** The values at `places`. A loop, because each layer of each step does it: `from` with a function takes ten times as long. */
function pick<A extends Int32Array | Float32Array | Uint8Array>(from: A, places: Int32Array, into: A): A {
  for (let i = 0; i < places.length; i++) into[i] = from[places[i]];
  return into;
}
