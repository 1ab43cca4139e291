import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { openSoftmaxTopK, type SoftmaxTopK } from './peers/softmax-top-k.js';
import { choosing, moving, type Stage } from './router/stages.js';
import { type Case, LOADS, makeCase } from './support/cases.js';
import { environment, measure, type Quantiles, quantilesOf, writeReport } from './support/measure.js';
import { printTable } from './support/table.js';

interface Settings {
  readonly tokens: readonly number[];
  readonly experts: number;
  readonly k: number;
  readonly hidden: number;
  readonly rounds: number;
}

interface Figure extends Quantiles {
  readonly tokens: number;
  readonly load: Case['load'];
  readonly stage: string;
  /** At the median. */
  readonly nsPerToken: number;
  /** The same work another way, in the same turns; `speedup` is its median divided by that of the stage. */
  readonly rival?: Quantiles & {
    readonly name: string;
    readonly nsPerToken: number;
    readonly speedup: number;
  };
}

/** Calls of fewer tokens are timed several at a time, so that the timing itself costs nothing beside them. */
const TOKENS_PER_READING = 256;

/**
 * The stages around the experts, each alone and on one thread: score and top-k, the whole of `route`, plan, gather, combine.
 * Results are compared with those of the rivals before anything is timed.
 * `npm run bench -- router [--tokens 4096] [--experts 256] [--k 8] [--hidden 1024] [--rounds 15] [--json file]`
 */
export async function router(args: readonly string[]): Promise<void> {
  const { json, ...settings } = parseSettings(args);
  const folder = await mkdtemp(join(tmpdir(), 'turnout-bench-'));
  try {
    const before = environment();
    const figures = await run(settings, folder);
    const report = {
      bench: 'router',
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
  const options = { tokens: text, experts: text, k: text, hidden: text, rounds: text, json: text };
  const { values } = parseArgs({ args: [...args], options });
  return {
    tokens: (values.tokens ?? '4096').split(',').map(Number),
    experts: Number(values.experts ?? 256),
    k: Number(values.k ?? 8),
    hidden: Number(values.hidden ?? 1024),
    rounds: Number(values.rounds ?? 15),
    ...(values.json ? { json: values.json } : {}),
  };
}

async function run(settings: Settings, folder: string): Promise<Figure[]> {
  const { tokens, experts, k, hidden, rounds } = settings;
  const peer = await openSoftmaxTopK(folder, experts, k);
  const figures: Figure[] = [];
  for (const load of LOADS) {
    for (const count of tokens) {
      const sample = makeCase({ hidden, experts }, count, load);
      const own = await measureStages(sample, k, rounds, peer);
      printTable(`T = ${count}, E = ${experts}, k = ${k}, H = ${hidden}, ${load} load`, own.map(line));
      figures.push(...own);
    }
  }
  await peer.release();
  return figures;
}

async function measureStages(sample: Case, k: number, rounds: number, peer: SoftmaxTopK): Promise<Figure[]> {
  const stages = [...(await choosing(sample, k, peer)), ...moving(sample, k)];
  const figures: Figure[] = [];
  for (const stage of stages) figures.push(await measureStage(sample, stage, rounds));
  return figures;
}

async function measureStage({ tokens, load }: Case, stage: Stage, rounds: number): Promise<Figure> {
  const calls = Math.max(1, Math.floor(TOKENS_PER_READING / tokens));
  const contender = ({ name, run }: { readonly name: string; run(): unknown }) => ({
    name,
    async run() {
      for (let i = 0; i < calls; i++) {
        const result = run();
        if (result instanceof Promise) await result;
      }
    },
  });
  const { name, rival } = stage;
  const samples = await measure([stage, ...(rival ? [rival] : [])].map(contender), rounds);
  const figure = (contenderName: string) => {
    const { medianMs, p10Ms, p90Ms } = quantilesOf(samples.get(contenderName)!);
    const nsPerToken = (medianMs * 1e6) / (calls * tokens);
    return { medianMs: medianMs / calls, p10Ms: p10Ms / calls, p90Ms: p90Ms / calls, nsPerToken };
  };
  const own = figure(name);
  if (!rival) return { tokens, load, stage: name, ...own };
  const other = figure(rival.name);
  return {
    tokens,
    load,
    stage: name,
    ...own,
    rival: { name: rival.name, ...other, speedup: other.medianMs / own.medianMs },
  };
}

function line({ stage, nsPerToken, p10Ms, p90Ms, tokens, rival }: Figure) {
  const spread = [p10Ms, p90Ms].map((ms) => Math.round((ms * 1e6) / tokens));
  return {
    stage,
    'ns/token': Math.round(nsPerToken),
    'p10-p90': spread.join('-'),
    rival: rival?.name ?? '',
    'its ns/token': rival ? Math.round(rival.nsPerToken) : '',
    'times as fast': rival ? rival.speedup.toFixed(2) : '',
  };
}
