import { admit } from './admit.js';
import { lazyProperty } from './lazy.js';
import { renormalise } from './renormalise.js';
import type { RouterInput, Routing, Selection } from './routing.js';
import type { Rows } from './rows.js';
import type { AdmitOptions, RenormaliseOptions } from './stage-options.js';

/** What a rule chose, and what it gives other experts where overflow moved tokens to them. */
export interface Choice {
  readonly selection: Selection;
  /** Experts [T * K] -> their weights before drops. */
  weighAgain(expert: Int32Array): Float32Array;
  /** Experts [T * K] -> their scores. */
  scoresOf(expert: Int32Array): Float32Array;
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
  { selection, weighAgain, scoresOf }: Choice,
  stages: LastStages,
  { input, rows }: { input: RouterInput; rows: Rows },
): Routing {
  const { seed, on = 'output', scale = 1, renormalise: when = 'never' } = stages;
  const call = { input, rows, ...(seed !== undefined && { seed }) };
  const { expert, reason, slot, moved, groups, states } = admit(selection, stages.admit ?? 'none', call);
  const before = moved ? weighAgain(expert) : selection.weight;
  const weight = renormalise(before, reason, selection.choices, { when, scale });
  const { tokens, experts, choices, scores, badRows } = selection;
  const places = placesOf(expert);
  const { token, choice } = whoChose(places, expert.length, choices);
  const routing = {
    tokens,
    experts,
    choices,
    token,
    choice,
    expert: pick(expert, places),
    weight: pick(weight, places),
    slot: pick(slot, places),
    reason: pick(reason, places),
    scores,
    logits: input.logits,
    weightsOn: on,
    groups,
    states,
    badRows,
  };
  return withScore(routing, () => pick(moved ? scoresOf(expert) : selection.score(), places));
}

const withScore = lazyProperty<'score', Float32Array>('score');

/** Where a token made a choice, in order; nothing where all did. */
function placesOf(expert: Int32Array): Int32Array | undefined {
  const places = new Int32Array(expert.length);
  let count = 0;
  for (let a = 0; a < expert.length; a++) if (expert[a] >= 0) places[count++] = a;
  return count === places.length ? undefined : places.subarray(0, count);
}

/** The values at `places`. A loop, because each layer of each step does it: `from` with a function takes ten times as long. */
function pick<A extends Int32Array | Float32Array | Uint8Array>(from: A, places: Int32Array | undefined): A {
  if (!places) return from;
  const into = from.slice(0, places.length) as A;
  for (let i = 0; i < places.length; i++) into[i] = from[places[i]];
  return into;
}

/** The token of each place, and which of its choices it is. */
function whoChose(
  places: Int32Array | undefined,
  length: number,
  choices: number,
): { token: Int32Array; choice: Int32Array } {
  const token = new Int32Array(length);
  const choice = new Int32Array(length);
  for (let a = 0, t = 0; a < length; t++) {
    for (let c = 0; c < choices; c++, a++) {
      token[a] = t;
      choice[a] = c;
    }
  }
  return { token: pick(token, places), choice: pick(choice, places) };
}
