import { openBareExperts } from '../peers/bare-experts.js';
import { type BareProcesses, openBareProcesses } from '../peers/bare-processes.js';
import type { Fitted } from './budget.js';
import { type CaseParts, measureCase } from './case.js';
import { type LayerContender, openContender } from './contenders.js';
import type { Machine } from './machine.js';
import type { ContenderName } from './names.js';
import { checkOracle } from './oracle.js';
import { openPackageSource } from './package-source.js';
import type { CaseFigures } from './report-schema.js';
import type { LayerBenchOptions } from './run.js';
import { shapeText } from './shapes.js';
import { type LayerSource, makeCase, makeSource } from './source.js';

/** `folder` is for files of this layer alone. */
export type ShapeOptions = LayerBenchOptions & { readonly folder: string };

export interface ShapeRun {
  readonly cases: CaseFigures[];
  readonly notes: string[];
  /** Of rivals. */
  readonly versions: Readonly<Record<string, string>>;
}

/**
 * Layer calls follow each other in a model: a reading is of some in a row, not of one that wakes all threads. Short enough
 * for many turns: the speed of a shared machine changes within seconds, and all contenders should see the same of it.
 */
const READING_MS = 50;

/** Writes a layer, opens everybody who can run it, and measures all of its cases. */
export async function runCases(fitted: Fitted, machine: Machine, options: ShapeOptions): Promise<ShapeRun> {
  const { folder, lanes, residency, seed, packageLayer, onProgress } = options;
  onProgress?.(`writing ${shapeText(fitted.shape)}`);
  const source = await (packageLayer
    ? openPackageSource(folder, packageLayer, seed)
    : makeSource(folder, fitted.shape, seed));
  await using stack = new Closing();
  const { opened, skipped } = await openAll(fitted.contenders, { source, stack, options });
  onProgress?.('opening the lanes of the limit');
  const bare = stack.use(await openBareExperts(source.files, lanes, residency));
  const bareProcesses = await openLeastProcesses(opened, options, source);
  if (bareProcesses) stack.use(bareProcesses);
  const { rounds, readingMs = READING_MS, signal } = options;
  const parts = {
    source,
    contenders: opened,
    bare,
    bareProcesses,
    machine,
    lanes,
    rounds,
    readingMs,
    signal,
  };
  const cases = await measureAll(parts, options);
  const versions = opened.flatMap(({ name, version }) => (version === undefined ? [] : [[name, version]]));
  const notes = [...fitted.notes, ...(source.notes ?? []), ...skipped];
  return { cases, notes, versions: Object.fromEntries(versions) };
}

interface Opening {
  readonly source: LayerSource;
  readonly stack: Closing;
  readonly options: ShapeOptions;
}

async function openAll(names: readonly ContenderName[], { source, stack, options }: Opening) {
  const { folder, lanes, devices, devicesAsked, residency, signal, onProgress } = options;
  const opened: LayerContender[] = [];
  const skipped: string[] = [];
  for (const name of names) {
    signal?.throwIfAborted();
    onProgress?.(`opening ${name}`);
    const contender = await openContender(name, { source, folder, lanes, devices, devicesAsked, residency });
    if ('skipped' in contender) skipped.push(`${name} skipped: ${contender.skipped}`);
    else opened.push(stack.use(contender));
  }
  return { opened, skipped };
}

/** For the least layer, where processes of turnout are measured that compute on CPUs. */
async function openLeastProcesses(
  opened: readonly LayerContender[],
  { devices, residency }: ShapeOptions,
  { files, set }: LayerSource,
): Promise<BareProcesses | undefined> {
  const measured = opened.some(({ name, exact }) => name === 'processes' && exact);
  return measured && set ? openBareProcesses(files, devices, residency) : undefined;
}

async function measureAll(
  parts: CaseParts,
  { loads, tokens, seed, onProgress }: ShapeOptions,
): Promise<CaseFigures[]> {
  const { source, contenders } = parts;
  await checkOracle(await makeCase(source, { load: loads[0]!, tokens: 1, seed }), source, contenders);
  const figures: CaseFigures[] = [];
  for (const load of loads) {
    for (const count of tokens) {
      onProgress?.(`${shapeText(source.shape)}: ${load}, T = ${count}`);
      const call = await makeCase(source, { load, tokens: count, seed });
      figures.push(await measureCase(call, parts));
    }
  }
  return figures;
}

/** Closes what it was given, the last one first. */
class Closing implements AsyncDisposable {
  readonly #open: AsyncDisposable[] = [];

  use<T extends AsyncDisposable>(resource: T): T {
    this.#open.push(resource);
    return resource;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const resource of this.#open.reverse()) await resource[Symbol.asyncDispose]();
  }
}
