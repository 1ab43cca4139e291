import { percentile, samplesOf } from '../support/measure.js';
import type { Times } from './report-schema.js';
import { type CallRun, STAGES } from './source.js';

/** Milliseconds that a call took in all its stages. */
export function callMs({ layers, trunkMs = 0 }: CallRun): number {
  const stages = layers.flatMap((layer) => Object.values(layer.stages));
  return stages.reduce((sum, ms) => sum + ms, trunkMs);
}

/** Where some milliseconds lie. */
export function spreadOf(ms: readonly number[]) {
  const samples = samplesOf(ms);
  const at = (p: number) => percentile(samples, p);
  return { p10: at(0.1), p50: at(0.5), p90: at(0.9), p99: at(0.99), samples: ms.length };
}

/** Milliseconds of the calls of one rule. */
export class CallTimes {
  #tokens = 0;
  readonly #calls: number[] = [];
  readonly #stages = new Map<string, number[]>();

  add(run: CallRun): void {
    const { sequences, layers, trunkMs } = run;
    this.#tokens += sequences.reduce((sum, { tokens }) => sum + tokens, 0);
    if (trunkMs !== undefined) this.#put('trunk', trunkMs);
    for (const { stages } of layers) for (const [stage, ms] of Object.entries(stages)) this.#put(stage, ms);
    this.#calls.push(callMs(run));
  }

  figures(): Times {
    // A coarse clock may tell nothing of calls that are over at once.
    const all = Math.max(
      1e-3,
      this.#calls.reduce((sum, ms) => sum + ms, 0),
    );
    const known = STAGES.filter((stage) => this.#stages.has(stage));
    return {
      tokensPerSecond: (1000 * this.#tokens) / all,
      call: spreadOf(this.#calls),
      stages: Object.fromEntries(
        known.map((stage) => {
          const samples = samplesOf(this.#stages.get(stage)!);
          return [stage, { p50: percentile(samples, 0.5), p99: percentile(samples, 0.99) }];
        }),
      ),
    };
  }

  #put(stage: string, ms: number): void {
    const known = this.#stages.get(stage);
    if (known) known.push(ms);
    else this.#stages.set(stage, [ms]);
  }
}
