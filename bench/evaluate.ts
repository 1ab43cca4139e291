import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Engine } from '../src/model/engine.js';
import { MoeModel } from '../src/model/moe-model.js';
import { logSumExp } from '../src/model/sampler.js';
import type { Sequence } from '../src/model/sequence.js';
import { row } from '../src/tensor.js';
import { writeReport } from './support/measure.js';

/** Windows of this many bytes are scored apart from each other, each from a fresh begin token with fresh capacity counters. */
const WINDOW = 512;

export interface DomainScore {
  readonly bytes: number;
  readonly bitsPerByte: number;
  /** [L] share of the assignments that capacity dropped. */
  readonly dropped: readonly number[];
  /** [L][E] kept assignments. */
  readonly kept: readonly (readonly number[])[];
}

/**
 * Bits per byte of each held-out text of a package on turnout's own runtime.
 * `npm run bench -- evaluate [--package experts/babel] [--backend inline|threads] [--json file]`
 */
export async function evaluate(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      package: { type: 'string', default: 'experts/babel' },
      backend: { type: 'string', default: 'threads' },
      json: { type: 'string' },
    },
  });
  await using model = await MoeModel.open(values.package, {
    backend: values.backend as 'inline' | 'threads',
  });
  const reference = await readFile(join(values.package, 'evidence.json'), 'utf8').then(
    JSON.parse,
    () => undefined,
  );
  const scores: Record<string, DomainScore> = {};
  for (const [domain, file] of Object.entries(model.manifest.heldOut ?? {})) {
    const score = await scoreText(model, await readFile(join(values.package, file)));
    scores[domain] = score;
    const trained = reference?.domains?.[domain]?.moe;
    const against =
      trained === undefined
        ? ''
        : `  training program ${trained.toFixed(5)}, difference ${(score.bitsPerByte - trained).toExponential(1)}`;
    console.log(`${domain.padEnd(12)} ${score.bitsPerByte.toFixed(5)} bits per byte${against}`);
  }
  if (values.json) await writeReport(values.json, scores);
}

/** Scores `text` in windows that pass the engine as sequences of their own. */
export async function scoreText(model: MoeModel, text: Uint8Array): Promise<DomainScore> {
  const engine = new Engine(model.program, { chunkRows: WINDOW });
  const { layers, sizes, tokenizer } = model.manifest;
  const kept = layers.map(() => new Array<number>(sizes.experts).fill(0));
  const dropped = layers.map(() => ({ dropped: 0, all: 0 }));
  let bits = 0;
  for (let start = 0; start < text.length; start += WINDOW) {
    const bytes = text.subarray(start, start + WINDOW);
    const tokens = [tokenizer.begin, ...bytes.subarray(0, -1)];
    const sequence = engine.add({ tokens, maxTokens: 0, logits: 'all', record: true });
    const [cost] = await Promise.all([bitsOf(sequence, bytes), engine.drive()]);
    bits += cost;
    sequence.recorded.flat().forEach((routing, i) => {
      const layer = Math.floor(i / (sequence.recorded[0]?.length ?? 1));
      routing.expert.forEach((expert, a) => {
        dropped[layer]!.all++;
        if (routing.reason[a] === 0) kept[layer]![expert]!++;
        else dropped[layer]!.dropped++;
      });
    });
  }
  return {
    bytes: text.length,
    bitsPerByte: bits / text.length,
    dropped: dropped.map((layer) => layer.dropped / Math.max(1, layer.all)),
    kept,
  };
}

async function bitsOf(sequence: Sequence, targets: Uint8Array): Promise<number> {
  let nats = 0;
  for await (const event of sequence) {
    if (event.kind !== 'logits') continue;
    for (let i = 0; i < event.logits.rows; i++) {
      const logits = row(event.logits, i);
      nats += logSumExp(logits) - logits[targets[event.first + i]!]!;
    }
  }
  return nats / Math.LN2;
}
