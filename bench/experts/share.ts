import type { ExpertBackend, ExpertBatch, Residency } from '../../src/experts/backend.js';
import { wholeBatch } from '../../src/experts/batches.js';
import { openInline } from '../../src/experts/inline.js';
import { openProcesses } from '../../src/experts/processes.js';
import { openThreads } from '../../src/experts/threads.js';
import { MoeLayer } from '../../src/moe-layer.js';
import { createRouter } from '../../src/router/create.js';
import { presetOptions } from '../../src/router/presets.js';
import type { Router } from '../../src/router/routing.js';
import { type BareExperts, openBareExperts } from '../peers/bare-experts.js';
import { agree, type Case, LOADS, makeCase } from '../support/cases.js';
import { type Contender, measure, type Quantiles, quantilesOf } from '../support/measure.js';
import { printTable } from '../support/table.js';
import { batchesOf, LANES, ORDERS, type Order, programOf } from './bare-programs.js';
import { type Bench, TWO_CORES } from './settings.js';

/** T up to which one thread is worth its time. */
const INLINE_TOKENS = 64;

/** Layer calls follow each other in a model: a reading is of some in a row, not of one that wakes five threads. */
const CALLS_MS = 300;

export interface ShareFigure extends Pick<Case, 'tokens' | 'load'> {
  /** One process each, with all experts; threads and bare experts have as many lanes, bound to no core. */
  readonly devices: readonly string[];
  readonly residency: Residency;
  /** Batches of the call, one for each expert that has rows, and the rows of the largest. */
  readonly batches: number;
  readonly largest: number;
  readonly limits: readonly (Quantiles & { readonly order: Order })[];
  /** L: the lower median of plan and longest. */
  readonly limitMs: number;
  /** `share` is L divided by the median: 1 is as fast as the limit. It can be above 1 where batches are split. */
  readonly contenders: readonly (Quantiles & { readonly name: string; readonly share: number })[];
}

interface Parts {
  readonly router: Router;
  readonly bare: BareExperts;
  readonly inline: ExpertBackend;
  readonly threads: ExpertBackend;
  readonly processes: ExpertBackend;
}

/** The time of a whole layer call beside that of its expert calls alone. */
export async function share({ settings, big }: Bench): Promise<ShareFigure[]> {
  const { k, tokens, rounds } = settings;
  const set = await big();
  await using inline = await openInline(set.files);
  await using threads = await openThreads(set.files, { lanes: LANES });
  await using processes = await openProcesses(set.files, {
    devices: TWO_CORES,
    oneProcessPer: 'device',
    replicas: LANES,
  });
  await using bare = await openBareExperts(set.files, LANES);
  const router = createRouter(presetOptions('mixtral', { select: { k } }), set.experts);
  const parts = { router, bare, inline, threads, processes };
  for (const backend of [threads, processes]) await warmUp(backend);
  const figures: ShareFigure[] = [];
  for (const load of LOADS) {
    for (const count of tokens) figures.push(await compare(makeCase(set, count, load), parts, rounds));
  }
  const title = `Layer calls on ${LANES} lanes (processes: ${TWO_CORES.join(', ')}, one each, all experts in both)`;
  printTable(`${title}; limit, then ms and share of the limit`, figures.map(tableRow));
  return figures;
}

/** Calls that every thread and process on the way compiles its code in: servers live longer than a bench. */
const WARM_CALLS = 2000;
const WARM_ROWS = 16;

async function warmUp(backend: ExpertBackend): Promise<void> {
  const x = new Float32Array(WARM_ROWS * backend.hidden).fill(0.1);
  const batches = Array.from({ length: LANES }, (_, expert) => wholeBatch(expert, x, backend.hidden));
  for (let i = 0; i < WARM_CALLS; i++) (await backend.run(batches, { lend: true })).recycle?.();
}

async function compare(given: Case, parts: Parts, rounds: number): Promise<ShareFigure> {
  const { tokens, load } = given;
  const batches = batchesOf(given, parts.router);
  await checkEqual(given, batches, parts);
  parts.bare.load(ORDERS.map((order) => programOf(order, batches, parts.inline)));
  const limits = ORDERS.map((order, i) => ({ name: order, run: async () => parts.bare.run(i) }));
  const contenders = contendersOf(given, batches, parts);
  const samples = await measure([...limits, ...contenders], rounds, { readingMs: CALLS_MS });
  const quantiles = (name: string) => quantilesOf(samples.get(name)!);
  const limitMs = Math.min(quantiles('plan').medianMs, quantiles('longest').medianMs);
  return {
    tokens,
    load,
    devices: TWO_CORES,
    residency: parts.inline.residency,
    batches: batches.length,
    largest: Math.max(...batches.map(({ rows }) => rows.length)),
    limits: ORDERS.map((order) => ({ order, ...quantiles(order) })),
    limitMs,
    contenders: contenders.map(({ name }) => {
      const taken = quantiles(name);
      return { name, ...taken, share: limitMs / taken.medianMs };
    }),
  };
}

function layersOf({ router, threads, processes }: Parts) {
  return [processes, threads].map((backend) => {
    const layer = new MoeLayer({ name: backend.kind, index: 0, router, backend });
    const forward = async ({ x, logits }: Case) => (await layer.forward(x, { logits })).y.data;
    return { name: `layer ${backend.kind}`, forward };
  });
}

function contendersOf(given: Case, batches: readonly ExpertBatch[], parts: Parts): Contender[] {
  const { processes, threads, inline } = parts;
  const backends = given.tokens <= INLINE_TOKENS ? [processes, threads, inline] : [processes, threads];
  return [
    ...backends.map((backend) => ({
      name: backend.kind,
      run: async () => (await backend.run(batches, { lend: true })).recycle?.(),
    })),
    ...layersOf(parts).map(({ name, forward }) => ({ name, run: () => forward(given) })),
  ];
}

/** All backends give the same bits, by themselves and under a layer. */
async function checkEqual(given: Case, batches: readonly ExpertBatch[], parts: Parts): Promise<void> {
  const { inline, threads, processes, router } = parts;
  const where = `${given.load}, T = ${given.tokens}`;
  const expected = (await inline.run(batches)).outputs;
  for (const backend of [threads, processes]) {
    const { outputs } = await backend.run(batches);
    for (const [i, y] of outputs.entries())
      agree(`${where}, batch ${i}: ${backend.kind} and inline`, y, expected[i]!, 0);
  }
  const layer = new MoeLayer({ name: 'inline', index: 0, router, backend: inline });
  const { y } = await layer.forward(given.x, { logits: given.logits });
  for (const { name, forward } of layersOf(parts))
    agree(`${where}: ${name} and inline`, await forward(given), y.data, 0);
}

function tableRow({
  load,
  limits,
  limitMs,
  contenders,
  ...figure
}: ShareFigure): Record<string, string | number> {
  const split = limits.find(({ order }) => order === 'split')!.medianMs;
  const cells = ['processes', 'threads', 'inline', 'layer processes', 'layer threads'].map((name) => {
    const found = contenders.find((contender) => contender.name === name);
    return [name, found ? `${found.medianMs.toFixed(2)} ${found.share.toFixed(2)}` : ''];
  });
  return {
    load,
    T: figure.tokens,
    batches: figure.batches,
    largest: figure.largest,
    limit: limitMs.toFixed(2),
    'split limit': split.toFixed(2),
    ...Object.fromEntries(cells),
  };
}
