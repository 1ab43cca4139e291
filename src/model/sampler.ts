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
}

/** logits [vocabulary] of the token at position - 1 -> the token at `position`, with its log-probability under the model (temperature 1). */
export type Sampler = (logits: Float32Array, position: number) => { token: number; logprob: number };

/** Temperature, then top-k, then top-p. Throws TURNOUT_OPTIONS_INVALID. */
export function createSampler(options: SamplerOptions = {}): Sampler {
  const { temperature = 1, topK = Number.POSITIVE_INFINITY, topP = 1, seed = 0 } = options;
  check('temperature', temperature, Number.isFinite(temperature) && temperature >= 0, 'a number from 0');
  check(
    'topK',
    topK,
    topK === Number.POSITIVE_INFINITY || (Number.isInteger(topK) && topK >= 1),
    'a whole number from 1',
  );
  check('topP', topP, topP > 0 && topP <= 1, 'a number above 0, at most 1');
  check('seed', seed, Number.isSafeInteger(seed), 'a whole number');
  return (logits, position) => {
    const normaliser = logSumExp(logits);
    const result = (token: number) => ({ token, logprob: logits[token]! - normaliser });
    if (temperature === 0) return result(argmax(logits));
    const order = Array.from(logits.keys())
      .sort((a, b) => logits[b]! - logits[a]! || a - b)
      .slice(0, topK);
    const top = logits[order[0]!]!;
    const mass = order.map((token) => Math.exp((logits[token]! - top) / temperature));
    const kept = nucleus(mass, topP);
    const draw = uniform(rowKey({ seed, request: 0, position, layer: 0, use: 'token' }), 0);
    let left = draw * sum(mass.slice(0, kept));
    for (let i = 0; i < kept - 1; i++) {
      left -= mass[i]!;
      if (left < 0) return result(order[i]!);
    }
    return result(order[kept - 1]!);
  };
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

/** log(sum(exp(x))) of x [n], in float64. */
export function logSumExp(x: Float32Array): number {
  let top = Number.NEGATIVE_INFINITY;
  for (const value of x) if (value > top) top = value;
  let total = 0;
  for (const value of x) total += Math.exp(value - top);
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
