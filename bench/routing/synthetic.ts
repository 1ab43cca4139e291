import { TurnoutError } from '../../src/errors.js';
import { rowKey, uniform } from '../../src/router/random.js';
import { matrix, zeros } from '../../src/tensor.js';
import type { LayerCost } from './cost.js';
import { type LogitsSequence, logitsSource } from './logits-source.js';
import { SHAPES, type Shape } from './names.js';
import type { Source } from './source.js';

export interface SyntheticOptions {
  readonly shape: Shape;
  readonly experts: number;
  /** T, of all sequences. */
  readonly tokens: number;
  /** Most tokens of one sequence. */
  readonly window: number;
  readonly perCall: number;
  readonly seed: number;
  readonly cost?: LayerCost | undefined;
}

/** Above all that 24-bit Gumbel numbers reach, so that every token wants the first expert. */
const WANTED = 40;
/** Ids that hash routing tells apart. */
const VOCABULARY = 256;

/**
 * One layer of made-up logits: the logarithm of each expert's popularity plus Gumbel noise, so that first choices follow
 * the popularity exactly (Gumbel-max trick). `uniform`: all alike. `zipf`: expert e (from 0) with 1 / (e + 1). `drifting`:
 * the same, with the most popular expert moving through all of them from the first token to the last. `adversarial`: all
 * tokens want expert 0. Throws TURNOUT_OPTIONS_INVALID for a shape that is none.
 */
export function openSynthetic(options: SyntheticOptions): Source {
  const { shape, experts, tokens, window, perCall, seed, cost } = options;
  if (!SHAPES.includes(shape)) {
    const message = `--synthetic: expected ${SHAPES.join(', ')}, got "${shape}"`;
    throw new TurnoutError('TURNOUT_OPTIONS_INVALID', message, { got: shape });
  }
  const sequences: LogitsSequence[] = [];
  for (let start = 0; start < tokens; start += window)
    sequences.push(makeSequence(options, start, Math.min(window, tokens - start)));
  const own = { shape, experts, tokens, window, sequencesPerCall: perCall, logitsSeed: seed };
  return logitsSource({
    description: { kind: 'synthetic', ...own, sequences: sequences.length },
    layers: [{ name: shape, experts }],
    causal: true,
    baseline: undefined,
    sequences,
    perCall,
    cost,
  });
}

function makeSequence(options: SyntheticOptions, start: number, length: number): LogitsSequence {
  const { experts, seed } = options;
  const logits = zeros(length, experts);
  const ids = new Int32Array(length);
  for (let t = 0; t < length; t++) {
    const key = rowKey({ seed, request: 0, position: start + t, layer: 0, use: 'noise' });
    ids[t] = Math.floor(VOCABULARY * uniform(key, experts));
    for (let e = 0; e < experts; e++) {
      logits.data[t * experts + e] = popularity(options, start + t, e) + gumbel(uniform(key, e));
    }
  }
  return { tokens: length, ids, layers: [{ logits: matrix(logits.data, length, experts) }] };
}

/** Logarithm of how much the tokens of this time want expert e. */
function popularity({ shape, experts, tokens }: SyntheticOptions, time: number, e: number): number {
  switch (shape) {
    case 'uniform':
      return 0;
    case 'zipf':
      return -Math.log(e + 1);
    case 'drifting': {
      const first = Math.floor((time * experts) / tokens);
      return -Math.log(((e - first + experts) % experts) + 1);
    }
    case 'adversarial':
      return e === 0 ? WANTED : 0;
  }
}

/** u in [0, 1), 24 bits -> a standard Gumbel number; half a step up, because the logarithm of 0 is none. */
function gumbel(u: number): number {
  return -Math.log(-Math.log(u + 2 ** -25));
}
