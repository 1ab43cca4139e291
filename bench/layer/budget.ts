import { readFileSync } from 'node:fs';
import { freemem } from 'node:os';
import { TurnoutError } from '../../src/errors.js';
import type { Residency } from '../../src/experts/backend.js';
import { type ContenderName, LEAVE_OUT } from './names.js';
import { type LayerShape, shapeBytes } from './shapes.js';

/** Whose weights lie in memory at the same time. */
export interface Holders {
  readonly contenders: readonly ContenderName[];
  readonly lanes: number;
  /** Processes. */
  readonly devices: number;
  readonly residency: Residency;
  /** The experts are there: they cannot be fewer. */
  readonly fixed?: boolean;
}

export interface Fitted {
  readonly shape: LayerShape;
  readonly contenders: readonly ContenderName[];
  /** What was scaled or left out, and why. */
  readonly notes: readonly string[];
  readonly needBytes: number;
}

/** What is left to the rest of the machine, and to outputs and buffers. */
const SHARE_OF_FREE = 0.6;

/** The default budget: a share of the memory that could be had now. */
export function memoryBudget(): number {
  return SHARE_OF_FREE * availableMemory();
}

/** Bytes; page cache that can be dropped counts, where the system tells. */
function availableMemory(): number {
  try {
    const kib = /^MemAvailable:\s+(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1];
    return kib === undefined ? freemem() : 1024 * Number(kib);
  } catch {
    return freemem();
  }
}

/** Copies of all weights: those of the files, of the limit's lanes, and of each contender. */
export function copiesOf(
  { contenders, lanes, devices, residency }: Holders,
  dtype: LayerShape['dtype'],
): number {
  const own = residency === 'mapped' ? 0 : 1;
  const copies: Record<ContenderName, number> = {
    // Those that are no more than a sixteenth of the memory are in this thread as well.
    auto: own * (lanes + 1),
    inline: own,
    threads: own * lanes,
    // Once more for the least layer.
    processes: 2 * own * devices,
    // Its own file, and for int4 what it packs: codes as bytes, and again in blocks.
    fused: dtype === 'int4' ? 4 : 2,
    dense: 1,
    torch: 1,
  };
  return 1 + own * lanes + contenders.reduce((sum, name) => sum + copies[name], 0);
}

/** Experts are not made fewer than this: each token has some to choose from. */
function leastExperts({ experts, k }: LayerShape): number {
  return Math.min(experts, Math.max(8, 2 * k));
}

/**
 * Makes a layer fit into `budget` bytes: first with fewer experts, then without contenders.
 * Throws TURNOUT_OPTIONS_INVALID where not even the limit and one contender fit.
 */
export function fitShape(shape: LayerShape, holders: Holders, budget: number): Fitted {
  const notes: string[] = [];
  const copies = (contenders: readonly ContenderName[]) => copiesOf({ ...holders, contenders }, shape.dtype);
  let { contenders } = holders;
  const fits = (experts: number) =>
    Math.floor(budget / (copies(contenders) * shapeBytes({ ...shape, experts: 1 }))) >= experts;
  const least = holders.fixed ? shape.experts : leastExperts(shape);
  for (const name of LEAVE_OUT) {
    if (fits(least) || contenders.length === 1) break;
    if (!contenders.includes(name)) continue;
    contenders = contenders.filter((other) => other !== name);
    notes.push(`${name} left out: with it even ${least} experts would not fit into ${gib(budget)} GiB`);
  }
  if (!fits(least))
    throw tooLarge(shape, {
      need: copies(contenders) * shapeBytes({ ...shape, experts: least }),
      budget,
      least,
    });
  let { experts } = shape;
  while (!fits(experts)) experts = Math.max(least, Math.ceil(experts / 2));
  const fitted = { ...shape, experts };
  if (experts < shape.experts) notes.unshift(scaledNote(shape, fitted, budget));
  return { shape: fitted, contenders, notes, needBytes: copies(contenders) * shapeBytes(fitted) };
}

function scaledNote(shape: LayerShape, { experts }: LayerShape, budget: number): string {
  const times = Number((shape.experts / experts).toFixed(1));
  return `scaled down from ${shape.experts} to ${experts} experts to fit into ${gib(budget)} GiB of memory: an expert gets ${times} times the rows that it would get`;
}

function tooLarge(
  shape: LayerShape,
  { need, budget, least }: { readonly need: number; readonly budget: number; readonly least: number },
): TurnoutError {
  const message = `--memory: expected at least ${gib(need)} GiB for ${least} experts of ${shape.hidden} x ${shape.inner}, got ${gib(budget)}`;
  return new TurnoutError('TURNOUT_OPTIONS_INVALID', message, { need, budget });
}

function gib(bytes: number): string {
  return (bytes / 2 ** 30).toFixed(1);
}
