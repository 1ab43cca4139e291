import { TurnoutError } from '../../src/errors.js';
import type { RouterInput } from '../../src/router/routing.js';
import { matrix } from '../../src/tensor.js';
import type { LayerCost } from './cost.js';
import { hashOf } from './hash.js';
import { type LogitsSequence, logitsSource } from './logits-source.js';
import type { Source } from './source.js';

export interface PlainLogitsOptions {
  /** Logits, sequences and token ids of one layer. */
  readonly input: RouterInput;
  readonly perCall: number;
  readonly cost?: LayerCost | undefined;
}

/** The input of `turnout route`: logits of one layer, from wherever. Throws TURNOUT_INPUT_INVALID for what a rule alone could use, or no rows. */
export function openLogits({ input, perCall, cost }: PlainLogitsOptions): Source {
  const { logits, sequences: spans = [{ length: logits.rows }], tokenIds, ...others } = input;
  const stray = Object.keys(others).filter((key) => key !== 'layer');
  if (stray.length > 0 || logits.rows === 0) {
    const got = stray.length > 0 ? stray.join(', ') : 'no rows';
    const message = `logits: expected rows, sequences and tokenIds, got ${got}`;
    throw new TurnoutError('TURNOUT_INPUT_INVALID', message, { got });
  }
  const sequences = cut({ ...input, sequences: spans });
  const lengths = spans.map(({ length }) => length).join();
  const numbers = new Uint8Array(logits.data.buffer, logits.data.byteOffset, logits.data.byteLength);
  return logitsSource({
    description: {
      kind: 'logits',
      experts: logits.cols,
      tokens: logits.rows,
      sequences: sequences.length,
      sequencesPerCall: perCall,
      logitsHash: hashOf(numbers, JSON.stringify([lengths, tokenIds ? [...tokenIds] : null])),
    },
    layers: [{ name: 'logits', experts: logits.cols }],
    causal: true,
    baseline: undefined,
    sequences,
    perCall,
    cost,
    ...(tokenIds === undefined && { withoutIds: true }),
  });
}

/** Throws TURNOUT_SHAPE_MISMATCH where the sequences are not all of the rows. */
function cut({ logits, sequences: spans = [], tokenIds }: RouterInput): LogitsSequence[] {
  const { rows, cols, data } = logits;
  const sum = spans.reduce((all, { length }) => all + length, 0);
  if (sum !== rows || (tokenIds && tokenIds.length !== rows)) {
    const message = `sequences and tokenIds: expected T = ${rows} rows, got ${sum} and ${tokenIds?.length ?? 'none'}`;
    throw new TurnoutError('TURNOUT_SHAPE_MISMATCH', message, { expected: rows, got: sum });
  }
  let end = 0;
  return spans
    .map(({ length }) => {
      const start = end;
      end += length;
      const own = matrix(data.slice(start * cols, end * cols), length, cols);
      const ids = tokenIds?.slice(start, end) ?? new Int32Array(length);
      return { tokens: length, ids, layers: [{ logits: own }] };
    })
    .filter(({ tokens }) => tokens > 0);
}
