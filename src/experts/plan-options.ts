import { TurnoutError } from '../errors.js';
import type { SlotSizes } from './eplb.js';

/** What a placement is planned for. */
export interface PlanOptions {
  /** D devices, each a lane. */
  readonly devices: number;
  /** R slots a layer, a multiple of D; where left out, E rounded up to one. */
  readonly replicas?: number;
  /** N nodes of D/N devices each; 1 where left out. */
  readonly nodes?: number;
  /** G groups of E/G experts that should stay on one node; 1 where left out. */
  readonly groups?: number;
}

/** As many as there can be lanes of threads. */
const MAX_DEVICES = 1024;
/** Slots of all layers together: 128 layers of 512, more than any model has; planned in two seconds at most. */
const MAX_SLOTS = 2 ** 16;
/** Above it whole numbers are no longer exact, and sums in float32 must stay finite. */
const MAX_LOAD = Number.MAX_SAFE_INTEGER;

/** Sizes that fit together, and whether groups are kept on their nodes. Throws TURNOUT_OPTIONS_INVALID. */
export function checkPlanOptions(
  options: PlanOptions,
  { layers, experts }: { layers: number; experts: number },
): SlotSizes {
  const devices = wholeNumber('devices', options.devices, MAX_DEVICES);
  const replicas = wholeNumber(
    'replicas',
    options.replicas ?? Math.ceil(experts / devices) * devices,
    MAX_SLOTS,
  );
  const nodes = wholeNumber('nodes', options.nodes ?? 1, MAX_DEVICES);
  const groups = wholeNumber('groups', options.groups ?? 1, MAX_SLOTS);
  if (replicas < experts) {
    refuse('replicas', `at least one for each of the ${experts} experts`, replicas);
  }
  if (replicas * layers > MAX_SLOTS) {
    refuse('replicas', `at most ${MAX_SLOTS} over all ${layers} layers`, replicas * layers);
  }
  if (replicas % devices !== 0) refuse('replicas', `a multiple of the ${devices} devices`, replicas);
  if (devices % nodes !== 0) refuse('devices', `a multiple of the ${nodes} nodes`, devices);
  if (groups % nodes !== 0) return { replicas, devices, nodes: 1, groups: 1 };
  if (experts % groups !== 0) refuse('groups', `a divisor of the ${experts} experts`, groups);
  return { replicas, devices, nodes, groups };
}

/** A whole number from `least` to `most`. Throws TURNOUT_OPTIONS_INVALID. */
export function wholeNumber(name: string, value: unknown, most: number, least = 1): number {
  if (Number.isInteger(value) && (value as number) >= least && (value as number) <= most)
    return value as number;
  return refuse(name, `a whole number from ${least} to ${most}`, value);
}

export function refuse(name: string, expected: string, got: unknown): never {
  const message = `${name}: expected ${expected}, got ${shown(got)}`;
  throw new TurnoutError('TURNOUT_OPTIONS_INVALID', message, { name, expected, got });
}

/** A value -> loads [L][E]. Throws TURNOUT_INPUT_INVALID. */
export function checkLoads(value: unknown): number[][] {
  const layers = nonEmpty(value, 'loads', 'layer');
  const experts = nonEmpty(layers[0], 'loads, layer 0', 'expert').length;
  for (const [l, layer] of layers.entries()) {
    const load = nonEmpty(layer, `loads, layer ${l}`, 'expert');
    if (load.length !== experts) {
      refuseInput(`loads, layer ${l}`, `${experts} experts as in layer 0`, load.length);
    }
    for (const [e, count] of load.entries()) {
      if (typeof count === 'number' && count >= 0 && count <= MAX_LOAD) continue;
      refuseInput(`loads, layer ${l}, expert ${e}`, `a number from 0 to ${MAX_LOAD}`, count);
    }
  }
  return layers as number[][];
}

function nonEmpty(value: unknown, where: string, what: string): unknown[] {
  if (Array.isArray(value) && value.length > 0) return value;
  return refuseInput(where, `a list of at least one ${what}`, value);
}

export function refuseInput(where: string, expected: string, got: unknown): never {
  const message = `${where}: expected ${expected}, got ${shown(got)}`;
  throw new TurnoutError('TURNOUT_INPUT_INVALID', message, { where, expected, got });
}

/** A value as a message shows it: JSON, except for the numbers that JSON has not; cut to a readable length. */
function shown(value: unknown): string {
  const text = typeof value === 'number' ? String(value) : (JSON.stringify(value) ?? String(value));
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
