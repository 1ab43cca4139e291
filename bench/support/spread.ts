import { median, samplesOf } from './measure.js';

/** A figure over the readings of a run. */
export interface Spread {
  readonly median: number;
  readonly least: number;
  readonly most: number;
}

export function spreadOf(values: readonly number[]): Spread {
  const samples = samplesOf(values);
  return { median: median(samples), least: samples.ms[0]!, most: samples.ms.at(-1)! };
}
