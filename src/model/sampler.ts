import { TurnoutError } from '../errors.js';
import { rowKey, uniform } from '../router/random.js';

export interface SamplerOptions {
  /** 0 takes the most probable token; 1 samples from the model's own distribution. 1 where left out. */
  readonly temperature?: number;
  /** Samples from this many most probable tokens; all where left out. */
  readonly topK?: number;
  /** Samples from the fewest tokens that hold this share of the probability (Holtzman et al. 2020); 1 where left out. */
  readonly topP?: number;
  /** Equal seeds give equal texts. 0 where left out. */
  readonly seed?: number;
  /** Tells samples of one seed apart, such as several answers to one prompt; 0 where left out. */
  readonly sample?: number;
  /** The most probable tokens that come with each sampled one; none where left out. */
  readonly top?: number;
  /** Tells how probable each token was, which takes an exponential for each of the vocabulary; `true` where left out. */
  readonly logprobs?: boolean;
}

/** A token with its log-probability under the model (temperature 1); NaN where the sampler was told to leave it out. */
export interface TokenLogprob {
  readonly token: number;
  readonly logprob: number;
}

/** A sampled token, and the most probable ones at its place where they were asked for, the best first. */
export interface Sampled extends TokenLogprob {
  readonly top?: readonly TokenLogprob[];
}

/** logits [vocabulary] of the token at position - 1 -> the token at `position`. */
export type Sampler = (logits: Float32Array, position: number) => Sampled;

/** Temperature, then top-k, then top-p. Throws TURNOUT_OPTIONS_INVALID. */
export function createSampler(options: SamplerOptions = {}): Sampler {
  const {
    temperature = 1,
    topK = Number.POSITIVE_INFINITY,
    topP = 1,
    seed = 0,
    sample = 0,
    top = 0,
    logprobs = true,
  } = options;
  check('temperature', temperature, Number.isFinite(temperature) && temperature >= 0, 'a number from 0');
  check(
    'topK',
    topK,
    topK === Number.POSITIVE_INFINITY || (Number.isInteger(topK) && topK >= 1),
    'a whole number from 1',
  );
  check('topP', topP, topP > 0 && topP <= 1, 'a number above 0, at most 1');
  check('seed', seed, Number.isSafeInteger(seed), 'a whole number');
  check('sample', sample, Number.isSafeInteger(sample) && sample >= 0, 'a whole number from 0');
  check('top', top, Number.isInteger(top) && top >= 0, 'a whole number from 0');
  const whole = topK === Number.POSITIVE_INFINITY && topP === 1;
  return (logits, position) => {
    const token = temperature === 0 ? argmax(logits) : draw(logits, position);
    if (!logprobs) return { token, logprob: Number.NaN };
    const normaliser = logSumExp(logits);
    const logprob = logits[token]! - normaliser;
    return top === 0 ? { token, logprob } : { token, logprob, top: topTokens(logits, top, normaliser) };
  };

  function draw(logits: Float32Array, position: number): number {
    const point = uniform(rowKey({ seed, request: sample, position, layer: 0, use: 'token' }), 0);
    if (whole) return drawFrom(logits, temperature, point);
    const order = Array.from(logits.keys())
      .sort((a, b) => logits[b]! - logits[a]! || a - b)
      .slice(0, topK);
    const most = logits[order[0]!]!;
    const mass = order.map((token) => Math.exp((logits[token]! - most) / temperature));
    const kept = nucleus(mass, topP);
    let left = point * sum(mass.slice(0, kept));
    for (let i = 0; i < kept - 1; i++) {
      left -= mass[i]!;
      if (left < 0) return order[i]!;
    }
    return order[kept - 1]!;
  }
}

/** Where `point` of [0, 1) falls among all tokens, laid side by side in their order. */
function drawFrom(logits: Float32Array, temperature: number, point: number): number {
  const most = logits[argmax(logits)]!;
  const mass = new Float64Array(logits.length);
  let total = 0;
  for (let i = 0; i < logits.length; i++) {
    mass[i] = Math.exp((logits[i]! - most) / temperature);
    total += mass[i]!;
  }
  let left = point * total;
  let last = 0;
  for (let i = 0; i < mass.length; i++) {
    if (mass[i] === 0) continue;
    last = i;
    left -= mass[i]!;
    if (left < 0) return i;
  }
  return last;
}

/** The `count` most probable tokens, the best first; lower numbers first among equals. `normaliser` is logSumExp(logits). */
export function topTokens(
  logits: Float32Array,
  count: number,
  normaliser = logSumExp(logits),
): TokenLogprob[] {
  const best: TokenLogprob[] = [];
  for (let token = 0; token < logits.length; token++) {
    const logprob = logits[token]! - normaliser;
    if (best.length === count && logprob <= best[count - 1]!.logprob) continue;
    let at = best.length;
    while (at > 0 && best[at - 1]!.logprob < logprob) at--;
    best.splice(at, 0, { token, logprob });
    if (best.length > count) best.pop();
  }
  return best;
}

/** How many of the falling masses are needed to hold `share` of their sum. */
function nucleus(mass: readonly number[], share: number): number {
  if (share === 1) return mass.length;
  const wanted = share * sum(mass);
  let held = 0;
  for (let i = 0; i < mass.length; i++) {
    held += mass[i]!;
    if (held >= wanted) return i + 1;
  }
  return mass.length;
}

function argmax(logits: Float32Array): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[best]!) best = i;
  return best;
}

/** log(sum(exp(x))) of x [n], in float64. Plain loops: an iterator makes an object of each number. */
export function logSumExp(x: Float32Array): number {
  let top = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < x.length; i++) if (x[i]! > top) top = x[i]!;
  let total = 0;
  for (let i = 0; i < x.length; i++) total += Math.exp(x[i]! - top);
  return top + Math.log(total);
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function check(name: string, value: number, ok: boolean, expected: string): void {
  if (!ok)
    throw new TurnoutError('TURNOUT_OPTIONS_INVALID', `${name}: expected ${expected}, got ${value}`, {
      [name]: value,
    });
}
