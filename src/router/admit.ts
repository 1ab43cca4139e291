import { capacityOf } from './capacity.js';
import { admissionOrder, type Priority } from './priority.js';
import {
  type CapacityGroup,
  DROP_REASONS,
  type RequestState,
  type RouterInput,
  type Selection,
} from './routing.js';
import type { Rows } from './rows.js';
import type { AdmitLimit, AdmitOptions } from './stage-options.js';

/** Who got in; arrays are [T * K]. */
export interface Admission {
  /** As chosen, except where overflow moved a token to its next-best expert. */
  readonly expert: Int32Array;
  /** Index in DROP_REASONS. */
  readonly reason: Uint8Array;
  /** Place in the expert's buffer of its group; -1 where dropped. */
  readonly slot: Int32Array;
  /** Whether any expert differs from the one chosen. */
  readonly moved: boolean;
  readonly groups: readonly CapacityGroup[];
  readonly states: readonly RequestState[];
}

/** Tokens that compete with each other: rows start .. start + length. */
interface Group {
  readonly start: number;
  readonly length: number;
  /** [E] kept so far. */
  readonly kept: Int32Array;
  /** The most that an expert may keep when row t asks. */
  capacityAt(t: number): number;
}

interface Context {
  readonly selection: Selection;
  readonly input: RouterInput;
  readonly rows: Rows;
  readonly seed: number;
  readonly expert: Int32Array;
  readonly reason: Uint8Array;
  readonly slot: Int32Array;
}

const CAPACITY = DROP_REASONS.indexOf('capacity');

/** Priorities after which slots are numbered by token, as DeepSpeed does, not by who was admitted first. */
const RENUMBERED: readonly Priority[] = ['probability', 'logit', 'random'];

/**
 * Choices -> those within capacity. Scope `request` counts on from each sequence's state, with the capacity of the
 * tokens so far; the other scopes count from zero, with the capacity of all rows of the group.
 */
export function admit(
  selection: Selection,
  options: AdmitOptions,
  call: { input: RouterInput; rows: Rows; seed?: number },
): Admission {
  if (options === 'none') return admitAll(selection, call.rows);
  const context: Context = {
    selection,
    input: call.input,
    rows: call.rows,
    seed: call.seed ?? 0,
    expert: selection.expert.slice(),
    reason: selection.reason.slice(),
    slot: new Int32Array(selection.expert.length).fill(-1),
  };
  const groups = makeGroups(options, selection, call.rows);
  let moved = false;
  for (const group of groups) moved = admitGroup(context, group, options) || moved;
  return {
    expert: context.expert,
    reason: context.reason,
    slot: context.slot,
    moved,
    groups: groups.map(({ start, length, capacityAt }) => ({
      start,
      length,
      capacity: capacityAt(start + length - 1),
    })),
    states: nextStates(context),
  };
}

/** Without capacity everything stays as chosen; slots are numbered in the order of tokens. */
function admitAll({ expert, reason, choices: K }: Selection, { spans }: Rows): Admission {
  const slot = new Int32Array(expert.length);
  const states = spans.map(({ start, length, state }) => {
    const kept = state.kept.slice();
    for (let a = start * K; a < (start + length) * K; a++) {
      slot[a] = expert[a] >= 0 && reason[a] === 0 ? kept[expert[a]]++ : -1;
    }
    return { position: state.position + length, kept };
  });
  const groups = spans.map(({ start, length }) => ({ start, length, capacity: Infinity }));
  return { expert, reason, slot, moved: false, groups, states };
}

function makeGroups(limit: AdmitLimit, selection: Selection, { spans }: Rows): Group[] {
  const { experts: E, choices: k, tokens: T } = selection;
  if ((limit.scope ?? 'request') === 'request') {
    return spans.map(({ start, length, state }) => ({
      start,
      length,
      kept: state.kept.slice(),
      capacityAt: (t) => capacityOf(limit, state.position + t - start + 1, E, k),
    }));
  }
  const competing = limit.scope === 'call' ? [{ start: 0, length: T }] : spans;
  return competing.map(({ start, length }) => {
    const capacity = capacityOf(limit, length, E, k);
    return { start, length, kept: new Int32Array(E), capacityAt: () => capacity };
  });
}

/** Admits the assignments of one group in order of priority; tells whether it moved any. */
function admitGroup(context: Context, group: Group, limit: AdmitLimit): boolean {
  const { expert, reason, slot, selection } = context;
  const priority = limit.priority ?? 'token-major';
  let moved = false;
  for (const a of admissionOrder(priority, group, context)) {
    const t = Math.floor(a / selection.choices);
    const capacity = group.capacityAt(t);
    if (group.kept[expert[a]] >= capacity && limit.overflow === 'next-best') {
      const better = nextBest(context, group, a, capacity);
      if (better >= 0) moved = moveTo(context, a, better);
    }
    if (group.kept[expert[a]] < capacity) slot[a] = group.kept[expert[a]]++;
    else reason[a] = CAPACITY;
  }
  if (RENUMBERED.includes(priority)) renumber(context, group);
  return moved;
}

/** The best-ranked expert with room that the token may take and does not hold through another choice; -1 if none. */
function nextBest(context: Context, group: Group, a: number, capacity: number): number {
  const { selection, expert, reason } = context;
  const { choices: K, experts: E, ranking } = selection;
  const t = Math.floor(a / K);
  const held = new Set<number>();
  for (let b = t * K; b < (t + 1) * K; b++) if (reason[b] === 0) held.add(expert[b]);
  let best = -1;
  let bestValue = -Infinity;
  for (let e = 0; e < E; e++) {
    const value = ranking.data[t * E + e];
    if (value > bestValue && group.kept[e] < capacity && !held.has(e)) {
      best = e;
      bestValue = value;
    }
  }
  return best;
}

/**
 * Moves choice `a` to another expert. One that the rule on later choices had dropped there takes over its old expert,
 * so that the choices of a token stay distinct.
 */
function moveTo({ selection, expert }: Context, a: number, better: number): true {
  const K = selection.choices;
  const first = a - (a % K);
  const dropped = expert.subarray(first, first + K).indexOf(better);
  if (dropped >= 0) expert[first + dropped] = expert[a];
  expert[a] = better;
  return true;
}

function renumber({ selection, expert, slot }: Context, group: Group): void {
  const next = new Int32Array(selection.experts);
  const K = selection.choices;
  for (let a = group.start * K; a < (group.start + group.length) * K; a++) {
    if (slot[a] >= 0) slot[a] = next[expert[a]]++;
  }
}

/** The counters of each sequence after this call. */
function nextStates({ rows, selection, expert, slot }: Context): RequestState[] {
  const K = selection.choices;
  return rows.spans.map(({ start, length, state }) => {
    const kept = state.kept.slice();
    for (let a = start * K; a < (start + length) * K; a++) if (slot[a] >= 0) kept[expert[a]]++;
    return { position: state.position + length, kept };
  });
}
