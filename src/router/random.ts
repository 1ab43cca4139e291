/*
 * Random numbers without state: each is a hash of its key, so the routing of a token depends neither on the
 * tokens drawn before it nor on how a sequence is cut into chunks. 32-bit integer arithmetic only, so that every
 * platform draws the same bits. The mixing steps are those of MurmurHash3 (Appleby, public domain).
 */

/** What a stream of numbers is for; uses of one row never share numbers. */
export const RANDOM_USES = { noise: 1, choice: 2, priority: 3, token: 4, hash: 5 } as const;

/** Whose number it is. */
export interface RandomSource {
  readonly seed: number;
  /** The sequence: `SequenceSpan.request`, or its place in the call. */
  readonly request: number;
  /** Place of the token in its sequence, earlier chunks included. */
  readonly position: number;
  readonly layer: number;
  readonly use: keyof typeof RANDOM_USES;
}

/** 64 bits that name one row of one use. */
export interface RowKey {
  readonly low: number;
  readonly high: number;
}

function mix(hash: number, value: number): number {
  let k = Math.imul(value, 0xcc9e2d51);
  k = (k << 15) | (k >>> 17);
  const h = hash ^ Math.imul(k, 0x1b873593);
  return (Math.imul((h << 13) | (h >>> 19), 5) + 0xe6546b64) | 0;
}

function finish(hash: number): number {
  let h = hash ^ (hash >>> 16);
  h = Math.imul(h, 0x85ebca6b);
  h ^= h >>> 13;
  h = Math.imul(h, 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** Integers up to 2^53 count with all their bits. */
function mixWide(hash: number, value: number): number {
  return mix(mix(hash, value | 0), Math.floor(value / 2 ** 32) | 0);
}

function hashSource(start: number, source: RandomSource): number {
  let h = mixWide(start, source.seed);
  h = mixWide(h, source.request);
  h = mixWide(h, source.position);
  return finish(mix(mix(h, source.layer), RANDOM_USES[source.use]));
}

/** Names the row that `uniform` and `normal` draw for. */
export function rowKey(source: RandomSource): RowKey {
  return { low: hashSource(0x2545f491, source), high: hashSource(0x61c88647, source) };
}

/** Number `index` (an expert or a choice) of the row, uniform in [0, 1): 24 bits, exact in float32. */
export function uniform(row: RowKey, index: number): number {
  return (finish(mix(mix(row.low, index), row.high)) >>> 8) / 2 ** 24;
}

/** Number `index` of the row, standard normal (Box and Muller 1958, the cosine half). */
export function normal(row: RowKey, index: number): number {
  const radius = Math.sqrt(-2 * Math.log(1 - uniform(row, 2 * index)));
  return radius * Math.cos(2 * Math.PI * uniform(row, 2 * index + 1));
}
