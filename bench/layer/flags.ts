import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { TurnoutError } from '../../src/errors.js';
import type { Residency } from '../../src/experts/backend.js';
import { cpuNumbers } from '../../src/experts/cpu-list.js';
import { parseDevices } from '../../src/experts/device.js';
import { GROUPS } from '../support/weights.js';
import { memoryBudget } from './budget.js';
import { CONTENDERS, LOADS } from './names.js';
import { type PackageLayer, readLayer } from './package-source.js';
import type { LayerBenchOptions } from './run.js';
import { DEFAULT_SHAPE, GRID, groupOf, type LayerShape, type ModelName, modelShape } from './shapes.js';

/** The options of the command as they were written. */
export interface LayerFlags {
  readonly package?: string;
  readonly layer?: number;
  readonly model?: ModelName;
  readonly experts?: number;
  readonly k?: number;
  readonly hidden?: number;
  readonly inner?: number;
  readonly dtype?: LayerShape['dtype'];
  readonly group?: number;
  readonly activation?: LayerShape['activation'];
  readonly grid?: true;
  readonly tokens: string;
  readonly loads: string;
  readonly contenders: string;
  readonly lanes?: number;
  readonly devices?: string;
  readonly residency: Residency;
  readonly rounds: number;
  readonly memory?: number;
  readonly seed: number;
}

/** Guards against typing errors: weights of 4 TiB, and calls of a million tokens, are none of this machine. */
const MOST = { size: 65_536, tokens: 1_048_576, lanes: 1024, rounds: 10_000, seed: 2 ** 31 } as const;

/** Throws TURNOUT_OPTIONS_INVALID or TURNOUT_CHOICES_INVALID. */
export async function optionsOf(
  flags: LayerFlags,
): Promise<Omit<LayerBenchOptions, 'signal' | 'onProgress' | 'onShape'>> {
  const { residency, rounds, seed, memory } = flags;
  whole('--rounds', rounds, [1, MOST.rounds]);
  whole('--seed', seed, [0, MOST.seed]);
  const lanes = flags.lanes ?? availableParallelism();
  whole('--lanes', lanes, [1, MOST.lanes]);
  if (memory !== undefined && !(memory > 0))
    throw invalid(`--memory: expected GiB above zero, got ${memory}`, { memory });
  const packageLayer = await packageOf(flags);
  const shapes = packageLayer ? [packageLayer.shape] : shapesOf(flags);
  const packed = shapes.find(({ dtype }) => dtype === 'int4');
  if (packed && residency === 'mapped')
    throw invalid('--residency: int4 weights must be packed, got mapped', { residency });
  const tokens = listOf('--tokens', flags.tokens).map(Number);
  for (const count of tokens) whole('--tokens', count, [1, MOST.tokens]);
  return {
    shapes,
    ...(packageLayer && { packageLayer }),
    tokens,
    loads: namesOf('--loads', flags.loads, LOADS),
    contenders: namesOf('--contenders', flags.contenders, CONTENDERS),
    lanes,
    devices: devicesOf(flags.devices, lanes),
    devicesAsked: flags.devices !== undefined,
    residency,
    rounds,
    memory: memory === undefined ? memoryBudget() : memory * 2 ** 30,
    seed,
  };
}

async function packageOf(flags: LayerFlags): Promise<PackageLayer | undefined> {
  const { package: folder, layer } = flags;
  if (folder === undefined) {
    if (layer === undefined) return undefined;
    throw invalid('--layer: needs --package', { layer });
  }
  const own = ['model', 'grid', ...SIZES, 'dtype', 'group'] as const;
  const stray = own.find((key) => flags[key] !== undefined);
  if (stray) throw invalid(`--package and --${stray}: the package has its sizes`, { stray });
  return readLayer(folder, layer ?? 0);
}

const SIZES = ['experts', 'k', 'hidden', 'inner', 'activation'] as const;

function shapesOf(flags: LayerFlags): readonly LayerShape[] {
  const { model, grid, dtype, group } = flags;
  const given = SIZES.filter((key) => flags[key] !== undefined).map((key) => `--${key}`);
  const sources = [
    ...(model === undefined ? [] : ['--model']),
    ...(grid ? ['--grid'] : []),
    ...(given.length > 0 ? [given.join(', ')] : []),
  ];
  if (sources.length > 1) throw invalid(`${sources.join(' and ')}: expected one of them`, { sources });
  if (grid && dtype) throw invalid('--grid and --dtype: the grid has both types', { dtype });
  if (grid && group) throw invalid('--grid and --group: the grid has its groups', { group });
  if (grid) return GRID;
  if (model !== undefined) return [grouped(modelShape(model, dtype ?? 'float32'), group)];
  return [madeShape(flags)];
}

/** A shape by its sizes; those of the default where left out. Throws TURNOUT_OPTIONS_INVALID or TURNOUT_CHOICES_INVALID. */
export function madeShape(flags: Partial<LayerShape>): LayerShape {
  const own = [...SIZES, 'dtype' as const].filter((key) => flags[key] !== undefined);
  const shape: LayerShape = { ...DEFAULT_SHAPE, ...Object.fromEntries(own.map((key) => [key, flags[key]])) };
  for (const key of ['experts', 'hidden', 'inner'] as const) whole(`--${key}`, shape[key], [1, MOST.size]);
  const { k, experts } = shape;
  if (!(Number.isSafeInteger(k) && k >= 1 && k <= experts)) {
    const message = `--k: expected a whole number from 1 to ${experts} experts, got ${k}`;
    throw new TurnoutError('TURNOUT_CHOICES_INVALID', message, { k, experts });
  }
  return grouped(shape, flags.group);
}

/** With int4 values in groups, of `group` where it is given. Throws TURNOUT_OPTIONS_INVALID. */
function grouped(shape: LayerShape, group = groupOf(shape).group): LayerShape {
  if (group === undefined) return shape;
  if (shape.dtype !== 'int4') throw invalid('--group: needs --dtype int4', { group });
  if (!GROUPS.some((known) => known === group))
    throw invalid(`--group: expected ${GROUPS.join(', ')}, got ${group}`, { group });
  for (const key of ['hidden', 'inner'] as const) {
    if (shape[key] % group !== 0)
      throw invalid(`--${key}: expected a multiple of ${group} for int4, got ${shape[key]}`, {
        [key]: shape[key],
      });
  }
  return { ...shape, group };
}

/** One core each where the system binds processes to cores. */
function devicesOf(list: string | undefined, lanes: number): readonly string[] {
  if (list !== undefined) return parseDevices(list).map(({ name }) => name);
  const cores = allowedCores();
  return Array.from({ length: lanes }, (_, i) => (cores ? `cpu:${cores[i % cores.length]}` : 'cpu'));
}

/** The cores that this process may run on; undefined where the system does not tell. */
function allowedCores(): readonly number[] | undefined {
  try {
    const list = /^Cpus_allowed_list:\s*(\S+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
    return list === undefined ? undefined : cpuNumbers(list);
  } catch {
    return undefined;
  }
}

function listOf(flag: string, text: string): string[] {
  const list = text.split(',').map((item) => item.trim());
  const twice = list.find((item, i) => list.indexOf(item) < i);
  if (twice !== undefined) throw invalid(`${flag}: expected each once, got ${twice} twice`, { twice });
  return list;
}

/** Names in a list, in the order of `known`. Throws TURNOUT_OPTIONS_INVALID. */
export function namesOf<N extends string>(flag: string, text: string, known: readonly N[]): N[] {
  const names = listOf(flag, text);
  const stray = names.find((name) => !known.includes(name as N));
  if (stray !== undefined)
    throw invalid(`${flag}: expected some of ${known.join(', ')}, got ${stray}`, { stray });
  // In the order of the table, whatever the order they were written in.
  return known.filter((name) => names.includes(name));
}

/** Throws TURNOUT_OPTIONS_INVALID. */
export function whole(flag: string, value: number, [least, most]: readonly [number, number]): void {
  if (Number.isSafeInteger(value) && value >= least && value <= most) return;
  throw invalid(`${flag}: expected a whole number from ${least} to ${most}, got ${value}`, { got: value });
}

function invalid(message: string, details: Record<string, unknown>): TurnoutError {
  return new TurnoutError('TURNOUT_OPTIONS_INVALID', message, details);
}
