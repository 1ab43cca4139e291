import type { Matrix } from '../tensor.js';

/*
 * Axes, used in every docstring of turnout:
 *   T tokens   H hidden   F expert inner size   E experts   K choices per token
 *   C capacity   A assignments (at most T*K for token choice, E*C for expert choice)   L layers
 */

/**
 * The counters of one sequence in one layer, for capacity scope `request`: how many of its tokens the layer has
 * routed and how many assignments each expert kept. Routing never writes into one; it returns the next.
 */
export interface RequestState {
  /** Tokens of this sequence already routed: the next one is number `position + 1`. */
  readonly position: number;
  /** [E] assignments of this sequence that each expert has admitted, those that were lost later included. */
  readonly kept: Int32Array;
}

/** The rows of one sequence within a call; rows of a sequence are adjacent and in order. */
export interface SequenceSpan {
  readonly length: number;
  /** Keys the random numbers of this sequence; its place in the call where left out. */
  readonly request?: number;
  /** Counters after its earlier chunks; a fresh sequence where left out. */
  readonly state?: RequestState;
}

/** What a router needs to know about one call of one layer. */
export interface RouterInput {
  /** [T, E] gate outputs. -infinity at one expert means: never this expert. */
  readonly logits: Matrix;
  /** Lengths sum to T; one sequence of T tokens where left out. */
  readonly sequences?: readonly SequenceSpan[];
  /** Index of the layer; keys the random numbers. 0 where left out. */
  readonly layer?: number;
  /** [T] token ids, for hash routing. */
  readonly tokenIds?: Int32Array;
  /** [T, E] standard normal noise to use instead of the seeded one. */
  readonly noise?: Matrix;
  /** [T, E] scale of the noise, before softplus, from a noisy gate (Shazeer et al. 2017, eq. 4). */
  readonly noiseScale?: Matrix;
  /** Recorded choices, for replay: experts [T * K], -1 for none, and their weights [T * K]. */
  readonly given?: { readonly experts: Int32Array; readonly weights: Float32Array };
  /** [T, K] uniform numbers in [0, 1) to use instead of the seeded ones. */
  readonly uniforms?: Matrix;
}

/** Why an assignment was not kept; `Routing.reason` holds the index in this list. */
export const DROP_REASONS = ['kept', 'capacity', 'later-choice', 'bad-row', 'lost'] as const;
export type DropReason = Exclude<(typeof DROP_REASONS)[number], 'kept'>;

/** A row that cannot be routed, with the first value that makes it so. It has no assignments. */
export interface BadRow {
  readonly row: number;
  readonly problem: 'nan' | 'positive-infinity' | 'all-negative-infinity';
  /** Column of the offending value; 0 for a row of only -infinity. */
  readonly column: number;
}

/** The capacity that held for one group of competing tokens at the end of the call. */
export interface CapacityGroup {
  /** First row and number of rows of the group in this call. */
  readonly start: number;
  readonly length: number;
  /** Rows that one expert may take of this group; Infinity where dropless. */
  readonly capacity: number;
}

/**
 * What a router decided: A assignments in token-major order (by token, then by choice), kept and dropped alike.
 * All arrays have length A. Losses and loads are functions of this record.
 */
export interface Routing {
  readonly tokens: number;
  /** E, zero-computation experts included. */
  readonly experts: number;
  /** K: the most choices that a token can have. */
  readonly choices: number;
  readonly token: Int32Array;
  /** 0 for the first choice of a token. */
  readonly choice: Int32Array;
  readonly expert: Int32Array;
  /**
   * The score that the weight comes from (without selection bias or noise masks). Like `scores`, token choice computes
   * it from `logits` when it is first read: logits that are written over before that give other scores.
   */
  readonly score: Float32Array;
  /** Weight in combine; 0 where dropped. */
  readonly weight: Float32Array;
  /** Place in the expert's buffer of its capacity group; -1 where dropped. */
  readonly slot: Int32Array;
  /** Index in DROP_REASONS. */
  readonly reason: Uint8Array;
  /** [T, E] all scores (softmax probabilities for a softmax rule), for losses. */
  readonly scores: Matrix;
  /** [T, E] the logits that were routed. */
  readonly logits: Matrix;
  /** Weights multiply the expert's output, or (Llama 4) its input row. */
  readonly weightsOn: 'output' | 'input';
  readonly groups: readonly CapacityGroup[];
  /** One per sequence of the input: the state for its next chunk. */
  readonly states: readonly RequestState[];
  readonly badRows: readonly BadRow[];
}

/**
 * What a rule chose before capacity: every rule but expert-choice ends here, and `admit` (capacity.ts) goes on.
 * Arrays are [T * K], token-major; -1 in `expert` where a token has fewer than K choices.
 */
export interface Selection {
  readonly tokens: number;
  readonly experts: number;
  readonly choices: number;
  readonly expert: Int32Array;
  /** The score of each choice; 0 where there is none. */
  score(): Float32Array;
  /** Weight of each choice before drops. */
  readonly weight: Float32Array;
  /** [T, E] all scores, for losses. */
  readonly scores: Matrix;
  /**
   * [T, E] what choices were ranked by (bias and noise included), -infinity where the token may not go; for next-best
   * overflow. Bad rows have no meaning in it.
   */
  readonly ranking: Matrix;
  /** [T * K] index in DROP_REASONS: 'later-choice' where a rule on later choices dropped one; else 0. */
  readonly reason: Uint8Array;
  readonly badRows: readonly BadRow[];
}

/** logits -> assignments. Pure: equal inputs give equal results; nothing is kept between calls. */
export interface Router {
  /** E, zero-computation experts included. */
  readonly experts: number;
  /** Experts that run; the remaining `experts - computed` at the end cost nothing (copy, zero, constant). */
  readonly computed: number;
  /** Kinds of the experts that cost nothing, the last columns of the logits in this order. */
  readonly zeroComputation: { readonly zero: number; readonly copy: number; readonly constant: number };
  readonly choices: number;
  /** Whether a token's routing is independent of the tokens after it and of other sequences. */
  readonly causal: boolean;
  /** Whether it is independent of other sequences of the call. */
  readonly isolated: boolean;
  /** For a rule that is not causal: which part makes it so. */
  readonly notCausalBecause?: string;
  route(input: RouterInput): Routing;
}

declare const planned: unique symbol;

/**
 * The kept assignments sorted by expert (stable: by token within an expert). Only `planDispatch` makes one.
 * Rows of expert e are `tokenIds[offsets[e] .. offsets[e + 1]]`.
 */
export interface DispatchPlan {
  readonly [planned]: true;
  readonly tokens: number;
  readonly experts: number;
  /** [A kept] */
  readonly tokenIds: Int32Array;
  /** [A kept] */
  readonly weights: Float32Array;
  /** [E + 1] */
  readonly offsets: Int32Array;
  /** [A kept] index of the assignment in the Routing. */
  readonly assignments: Int32Array;
  readonly weightsOn: 'output' | 'input';
  /** Dropped assignments with their reason. */
  readonly dropped: readonly { token: number; choice: number; expert: number; reason: DropReason }[];
}
