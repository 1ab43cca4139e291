import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { openInline } from '../src/experts/inline.js';
import { openThreads } from '../src/experts/threads.js';
import { MoeLayer } from '../src/moe-layer.js';
import { createRouter } from '../src/router/create.js';
import { presetOptions } from '../src/router/presets.js';
import type { Matrix } from '../src/tensor.js';
import { openFusedMoe } from './peers/fused-moe.js';
import { agree, type Case, LOADS, makeCase } from './support/cases.js';
import { makeExperts } from './support/experts.js';
import {
  environment,
  measure,
  type Quantiles,
  quantilesOf,
  type Samples,
  writeReport,
} from './support/measure.js';

interface Settings {
  readonly experts: number;
  readonly k: number;
  readonly hidden: number;
  readonly inner: number;
  readonly threads: number;
  readonly tokens: readonly number[];
  readonly rounds: number;
}

type Forward = (x: Matrix, logits: Matrix) => Promise<Float32Array>;

export interface Figure extends Quantiles {
  readonly tokens: number;
  readonly load: Case['load'];
  readonly contender: string;
  /** Median time of the fused operator divided by that of the contender: above 1 is faster than it. */
  readonly speedup: number;
}

/**
 * One layer of relu experts by three ways that must agree before they are timed: turnout inline, turnout threads, and
 * ONNX Runtime's fused com.microsoft.MoE. All are given the logits, so no gate is in the times.
 * `npm run bench -- moe-layer [--tokens 1,4,16] [--rounds 9] [--experts 16] [--k 2] [--hidden 1024] [--inner 2048] [--threads N] [--json file]`
 */
export async function moeLayer(args: readonly string[]): Promise<void> {
  const { json, ...settings } = parseSettings(args);
  const folder = await mkdtemp(join(tmpdir(), 'turnout-bench-'));
  try {
    const before = environment();
    const figures = await run(settings, folder);
    const report = {
      bench: 'moe-layer',
      settings,
      ...before,
      loadAverageAfter: environment().loadAverage,
      figures,
    };
    if (json) await writeReport(json, report);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function parseSettings(args: readonly string[]): Settings & { json?: string } {
  const text = { type: 'string' } as const;
  const options = {
    tokens: text,
    rounds: text,
    experts: text,
    k: text,
    hidden: text,
    inner: text,
    threads: text,
    json: text,
  };
  const { values } = parseArgs({ args: [...args], options });
  return {
    experts: Number(values.experts ?? 16),
    k: Number(values.k ?? 2),
    hidden: Number(values.hidden ?? 1024),
    inner: Number(values.inner ?? 2048),
    threads: Number(values.threads ?? availableParallelism()),
    tokens: (values.tokens ?? '1,4,16,64,256,1024').split(',').map(Number),
    rounds: Number(values.rounds ?? 9),
    ...(values.json ? { json: values.json } : {}),
  };
}

async function run(settings: Settings, folder: string): Promise<Figure[]> {
  const { experts, k, hidden, inner, threads, tokens, rounds } = settings;
  console.log(`writing ${experts} experts [${hidden} x ${inner}], k = ${k}, ${threads} threads`);
  const set = await makeExperts(folder, { experts, hidden, inner, activation: 'relu' });
  await using inline = await openInline(set.files);
  await using lanes = await openThreads(set.files, { lanes: threads });
  const fused = await openFusedMoe(folder, set, k, threads);
  const router = createRouter(presetOptions('mixtral', { select: { k } }), experts);
  const layerOf = (name: string, backend: typeof inline | typeof lanes): Forward => {
    const layer = new MoeLayer({ name, index: 0, router, backend });
    return async (x, logits) => (await layer.forward(x, { logits })).y.data;
  };
  const ways = { inline: layerOf('inline', inline), threads: layerOf('threads', lanes), fused: fused.run };
  const figures: Figure[] = [];
  for (const load of LOADS) {
    for (const count of tokens) figures.push(...(await compare(makeCase(set, count, load), ways, rounds)));
  }
  await fused.release();
  return figures;
}

async function compare(
  { tokens, load, x, logits }: Case,
  ways: { inline: Forward; threads: Forward; fused: Forward },
  rounds: number,
): Promise<Figure[]> {
  const where = `${load}, T = ${tokens}`;
  const [one, two, peer] = await Promise.all(
    [ways.inline, ways.threads, ways.fused].map((way) => way(x, logits)),
  );
  agree(`${where}: threads and inline`, two!, one!, 0);
  agree(`${where}: fused and inline`, peer!, one!, 1e-4);
  const contenders = Object.entries(ways).map(([name, way]) => ({ name, run: () => way(x, logits) }));
  const samples = await measure(contenders, rounds);
  const figures = [...samples].map(([contender, taken]) =>
    figure({ tokens, load, contender }, taken, samples.get('fused')!),
  );
  const cells = figures.map(
    ({ contender, medianMs, p10Ms, p90Ms, speedup }) =>
      `${contender} ${medianMs.toFixed(2)} (${p10Ms.toFixed(2)}-${p90Ms.toFixed(2)}) ${speedup.toFixed(2)}x`,
  );
  console.log(`${where.padEnd(18)} ${cells.join('   ')}`);
  return figures;
}

function figure(what: Pick<Figure, 'tokens' | 'load' | 'contender'>, taken: Samples, fused: Samples): Figure {
  const quantiles = quantilesOf(taken);
  return { ...what, ...quantiles, speedup: quantilesOf(fused).medianMs / quantiles.medianMs };
}
