import type { Quality } from './report-schema.js';
import type { SequenceRun } from './source.js';

/** Bits of the same sequences under the rule to compare with, in order. */
export type BaselineBits = readonly number[];

/** Bits per byte, and the change against the baseline; null where no model has read the sequences. Without a baseline it is 0. */
export function qualityOf(
  sequences: readonly SequenceRun[],
  baseline: BaselineBits | undefined,
): Quality | null {
  if (sequences.some(({ bits }) => bits === null)) return null;
  const scored = sequences.map(({ domain, tokens, bits }, s) => ({
    domain,
    bytes: tokens,
    bits: bits!,
    change: baseline === undefined ? 0 : bits! - baseline[s]!,
  }));
  const domains = [...new Set(scored.map(({ domain }) => domain))];
  const bytes = sum(scored.map((own) => own.bytes));
  return {
    bitsPerByte: sum(scored.map(({ bits }) => bits)) / bytes,
    change: sum(scored.map(({ change }) => change)) / bytes,
    changeError: errorOf(scored, bytes),
    domains: Object.fromEntries(
      domains.map((domain) => {
        const own = scored.filter((sequence) => sequence.domain === domain);
        const size = sum(own.map((sequence) => sequence.bytes));
        const bitsPerByte = sum(own.map(({ bits }) => bits)) / size;
        return [domain, { bytes: size, bitsPerByte, change: sum(own.map(({ change }) => change)) / size }];
      }),
    ),
    sequences: scored.map(({ bits }) => bits),
  };
}

/** Standard error of the change in bits per byte: of a sum of n independent changes, over the bytes of all. */
function errorOf(scored: readonly { readonly change: number }[], bytes: number): number | null {
  const n = scored.length;
  if (n < 2) return null;
  const mean = sum(scored.map(({ change }) => change)) / n;
  const variance = sum(scored.map(({ change }) => (change - mean) ** 2)) / (n - 1);
  return Math.sqrt(n * variance) / bytes;
}

function sum(values: readonly number[]): number {
  return values.reduce((all, value) => all + value, 0);
}
