import type { StageTimes } from '../../src/moe-layer.js';
import { agree } from '../support/cases.js';
import { measure, median, type Quantiles, quantilesOf, samplesOf } from '../support/measure.js';
import type { LayerContender } from './contenders.js';
import { floorOf, LIMITS, type LimitParts, type Limits, openLimits, type Work, workOf } from './limits.js';
import { type Machine, peakOf } from './machine.js';
import type { CaseFigures, ContenderFigures } from './report-schema.js';
import { type LayerShape, rowFlops } from './shapes.js';
import type { LayerCase, LayerSource } from './source.js';

export interface CaseParts extends LimitParts {
  readonly contenders: readonly LayerContender[];
  readonly machine: Machine;
  readonly rounds: number;
  /** A contender runs for at least this long at a time. */
  readonly readingMs: number;
  readonly signal: AbortSignal | undefined;
}

/** A contender that takes longer for one call is left out: a case is to be over in a minute or two. */
const MOST_MS = 4000;

/** Everybody on one call: first whether they agree, then in turns against the clock. Throws where they do not agree. */
export async function measureCase(call: LayerCase, parts: CaseParts): Promise<CaseFigures> {
  const { source, machine, rounds, readingMs, signal } = parts;
  const { quick, notes } = withoutSlow(call, parts);
  const limits = await openLimits(call, parts);
  try {
    const differences = await checkEqual(call, quick, source, limits);
    for (const { stages } of quick) stages?.splice(0);
    const runs = quick.map((contender) => ({
      name: contender.name,
      run: () => contender.forward(call),
      ...(contender.timed && { timed: (repeats: number) => contender.timed!(call, repeats) }),
    }));
    const samples = await measure([...limits.runs, ...limits.least, ...runs], rounds, {
      readingMs,
      ...(signal && { signal }),
    });
    const times = new Map([...samples].map(([name, taken]) => [name, quantilesOf(taken)]));
    const work = workOf(source, call);
    return { ...figuresOf({ call, work, machine, times, contenders: quick, differences }), notes };
  } finally {
    await limits.close();
  }
}

/** The dense model computes all experts for all rows: with many of both it is left out. */
function withoutSlow(call: LayerCase, { source, contenders, machine }: CaseParts) {
  const flops = call.tokens * source.shape.experts * rowFlops(source.shape);
  const ms = flops / peakOf(machine, 'all') / 1e6;
  const dense = contenders.some(({ name }) => name === 'dense');
  if (ms <= MOST_MS || !dense) return { quick: contenders, notes: [] };
  const quick = contenders.filter(({ name }) => name !== 'dense');
  return { quick, notes: [`dense left out: it would take ${(ms / 1000).toFixed(0)} s and more`] };
}

/** How far from each other they may be: float32 sums in another order; int4 experts round activations to 8 bits in turnout, and not in QMoE. */
const TOLERANCE = { float32: 1e-5, int4: 0.05 } as const;
/** Devices other than the CPU may multiply with fewer bits. */
const ELSEWHERE = 1e-3;

export function toleranceOf(
  { stages, exact }: Pick<LayerContender, 'stages' | 'exact'>,
  dtype: LayerShape['dtype'],
): number {
  return stages && !exact ? Math.max(TOLERANCE[dtype], ELSEWHERE) : TOLERANCE[dtype];
}

/** Root mean square difference of each contender to the first one, relative to its output; turnout's own ways and the least layer give its very bits. */
async function checkEqual(
  call: LayerCase,
  contenders: readonly LayerContender[],
  { shape }: LayerSource,
  { least }: Limits,
): Promise<Map<string, number>> {
  const where = `${call.load}, T = ${call.tokens}`;
  const [first, ...others] = contenders;
  if (!first) return new Map();
  const expected = await first.forward(call);
  const differences = new Map([[first.name as string, 0]]);
  if (first.exact)
    for (const { name, run } of least) agree(`${where}: ${name} and ${first.name}`, await run(), expected, 0);
  for (const contender of others) {
    const { name, exact, forward } = contender;
    const y = await forward(call);
    if (exact && first.exact) agree(`${where}: ${name} and ${first.name}`, y, expected, 0);
    const difference = relativeDifference(y, expected);
    if (!(difference <= toleranceOf(contender, shape.dtype)))
      throw new Error(`${where}: ${name} and ${first.name} differ by ${difference} of the output`);
    differences.set(name, difference);
  }
  return differences;
}

/** Root mean square of got - expected, divided by that of expected. NaN where lengths differ. */
export function relativeDifference(got: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (got.length !== expected.length) return Number.NaN;
  let [apart, size] = [0, 0];
  for (let i = 0; i < got.length; i++) {
    apart += (got[i]! - expected[i]!) ** 2;
    size += expected[i]! ** 2;
  }
  return Math.sqrt(apart / size);
}

interface Measured {
  readonly call: LayerCase;
  readonly work: Work;
  readonly machine: Machine;
  readonly times: ReadonlyMap<string, Quantiles>;
  readonly contenders: readonly LayerContender[];
  readonly differences: ReadonlyMap<string, number>;
}

function figuresOf(measured: Measured): Omit<CaseFigures, 'notes'> {
  const { call, work, machine, times } = measured;
  const [floor, floorOneLane] = [floorOf(work, machine, 'all'), floorOf(work, machine, 'one')];
  const [plan, longest, one] = [LIMITS.plan, LIMITS.longest, LIMITS.one].map((name) => times.get(name)!);
  const best = longest!.medianMs < plan!.medianMs ? 'longest' : 'plan';
  const [least] = [LIMITS.leastPlan, LIMITS.leastLongest]
    .flatMap((name) => times.get(name) ?? [])
    .sort((a, b) => a.medianMs - b.medianMs);
  const leastProcesses = times.get(LIMITS.leastProcesses);
  const limit = best === 'plan' ? plan! : longest!;
  const share = (taken: Quantiles) => ({ ...taken, ofLimit: limit.medianMs / taken.medianMs });
  return {
    load: call.load,
    tokens: call.tokens,
    ...work,
    rows: [...work.rows],
    floor,
    floorOneLane,
    limit: { ...limit, order: best, ofFloor: floor.ms / limit.medianMs },
    limitOneLane: { ...one!, ofFloor: floorOneLane.ms / one!.medianMs },
    ...(least && { least: share(least) }),
    ...(leastProcesses && { leastProcesses: share(leastProcesses) }),
    contenders: contenderFigures(measured, {
      limit: limit.medianMs,
      one: one!.medianMs,
      floor: floor.ms,
      least: least?.medianMs,
      leastProcesses: leastProcesses?.medianMs,
    }),
  };
}

function contenderFigures(
  { contenders, times, differences }: Measured,
  bounds: Readonly<
    Record<'limit' | 'one' | 'floor', number> & Record<'least' | 'leastProcesses', number | undefined>
  >,
): ContenderFigures[] {
  const fused = times.get('fused')?.medianMs;
  return contenders.map(({ name, stages }) => {
    const taken = times.get(name)!;
    const least = name === 'processes' ? bounds.leastProcesses : bounds.least;
    return {
      name,
      ...taken,
      ofLimit: bounds.limit / taken.medianMs,
      ofOneLane: bounds.one / taken.medianMs,
      ofFloor: bounds.floor / taken.medianMs,
      ...(least !== undefined && { ofLeast: least / taken.medianMs }),
      toFused: fused === undefined ? null : fused / taken.medianMs,
      difference: differences.get(name)!,
      ...(stages && stages.length > 0 && stageFigures(stages)),
    };
  });
}

const AROUND: readonly (keyof StageTimes)[] = ['gateMs', 'routeMs', 'dispatchMs', 'combineMs'];

/** Medians over all calls that were timed. */
function stageFigures(calls: readonly StageTimes[]): Pick<ContenderFigures, 'stages' | 'aroundExperts'> {
  const names = Object.keys(calls[0]!) as (keyof StageTimes)[];
  const sum = (call: StageTimes, stages: readonly (keyof StageTimes)[]) =>
    stages.reduce((total, stage) => total + call[stage], 0);
  return {
    stages: Object.fromEntries(
      names.map((name) => [name, median(samplesOf(calls.map((call) => call[name])))]),
    ),
    aroundExperts: median(samplesOf(calls.map((call) => sum(call, AROUND) / sum(call, names)))),
  };
}
