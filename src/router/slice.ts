import { matrix } from '../tensor.js';
import type { Routing } from './routing.js';

const PER_ASSIGNMENT = ['token', 'choice', 'expert', 'score', 'weight', 'slot', 'reason'] as const;

/**
 * The part of a call's routing that belongs to rows [start, start + length): what one sequence sees of a shared call.
 * Tokens count from 0 again. `groups` and `states` are those of the span, found by its first row.
 */
export function sliceRouting(routing: Routing, start: number, length: number, span = 0): Routing {
  const from = firstAt(routing.token, start);
  const to = firstAt(routing.token, start + length);
  const E = routing.experts;
  const part = Object.fromEntries(
    PER_ASSIGNMENT.map((key) => [key, routing[key].slice(from, to)]),
  ) as unknown as Pick<Routing, (typeof PER_ASSIGNMENT)[number]>;
  for (let a = 0; a < part.token.length; a++) part.token[a] = part.token[a]! - start;
  return {
    ...routing,
    ...part,
    tokens: length,
    scores: matrix(routing.scores.data.slice(start * E, (start + length) * E), length, E),
    logits: matrix(routing.logits.data.slice(start * E, (start + length) * E), length, E),
    groups: routing.groups
      .filter((group) => group.start < start + length && start < group.start + group.length)
      .map((group) => ({
        ...group,
        start: Math.max(0, group.start - start),
        length: Math.min(group.length, length),
      })),
    states: routing.states.slice(span, span + 1),
    badRows: routing.badRows
      .filter((bad) => bad.row >= start && bad.row < start + length)
      .map((bad) => ({ ...bad, row: bad.row - start })),
  };
}

/** Routings of successive chunks, joined into one of all their tokens; at least one. The states are those of the last. */
export function joinRoutings(parts: readonly Routing[]): Routing {
  const [first] = parts;
  if (!first) throw new RangeError('joinRoutings needs at least one routing');
  const starts = offsets(parts.map((part) => part.tokens));
  const tokens = starts[parts.length]!;
  const shifted = parts.map((part, i) => part.token.map((token) => token + starts[i]!));
  return {
    ...first,
    tokens,
    token: joinInts(shifted),
    choice: joinInts(parts.map((part) => part.choice)),
    expert: joinInts(parts.map((part) => part.expert)),
    slot: joinInts(parts.map((part) => part.slot)),
    reason: Uint8Array.from(joinInts(parts.map((part) => Int32Array.from(part.reason)))),
    score: joinFloats(parts.map((part) => part.score)),
    weight: joinFloats(parts.map((part) => part.weight)),
    scores: matrix(joinFloats(parts.map((part) => part.scores.data)), tokens, first.experts),
    logits: matrix(joinFloats(parts.map((part) => part.logits.data)), tokens, first.experts),
    groups: parts.flatMap((part, i) =>
      part.groups.map((group) => ({ ...group, start: group.start + starts[i]! })),
    ),
    states: parts[parts.length - 1]!.states,
    badRows: parts.flatMap((part, i) => part.badRows.map((bad) => ({ ...bad, row: bad.row + starts[i]! }))),
  };
}

/** The first index whose token is at least `token`; assignments are in token order. */
function firstAt(tokens: Int32Array, token: number): number {
  let low = 0;
  let high = tokens.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (tokens[middle]! < token) low = middle + 1;
    else high = middle;
  }
  return low;
}

function offsets(lengths: readonly number[]): number[] {
  const starts = [0];
  for (const length of lengths) starts.push(starts[starts.length - 1]! + length);
  return starts;
}

function joinInts(parts: readonly Int32Array[]): Int32Array {
  const starts = offsets(parts.map((part) => part.length));
  const joined = new Int32Array(starts[parts.length]!);
  parts.forEach((part, i) => {
    joined.set(part, starts[i]);
  });
  return joined;
}

function joinFloats(parts: readonly Float32Array[]): Float32Array {
  const starts = offsets(parts.map((part) => part.length));
  const joined = new Float32Array(starts[parts.length]!);
  parts.forEach((part, i) => {
    joined.set(part, starts[i]);
  });
  return joined;
}
