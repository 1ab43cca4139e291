import { TurnoutError } from '../errors.js';

/*
 * Checks of values that came over a link: plain functions, for a process that starts in a tenth of a second cannot
 * afford a schema compiler, whose modules alone take half of that.
 */

/** Gives the value back, typed; throws TURNOUT_FRAME_INVALID with `where` it stands, what was expected and what came. */
export type Check<T> = (value: unknown, where: string) => T;
export type Checked<C> = C extends Check<infer T> ? T : never;

export const natural: Check<number> = (value, where) =>
  Number.isSafeInteger(value) && (value as number) >= 0
    ? (value as number)
    : refuse(where, 'a whole number from 0', value);

export const positive: Check<number> = (value, where) =>
  natural(value, where) > 0 ? (value as number) : refuse(where, 'a whole number from 1', value);

export const duration: Check<number> = (value, where) =>
  Number.isFinite(value) && (value as number) >= 0
    ? (value as number)
    : refuse(where, 'a number from 0', value);

export const text: Check<string> = (value, where) =>
  typeof value === 'string' ? value : refuse(where, 'a text', value);

export function exactly<const T extends string>(expected: T): Check<T> {
  return (value, where) => (value === expected ? expected : refuse(where, JSON.stringify(expected), value));
}

export function orNull<T>(check: Check<T>): Check<T | null> {
  return (value, where) => (value === null ? null : check(value, where));
}

export function list<T>(check: Check<T>, { min = 0, max = Infinity } = {}): Check<T[]> {
  return (value, where) => {
    if (!Array.isArray(value) || value.length < min || value.length > max) {
      return refuse(where, max === Infinity ? 'a list' : `a list of ${min} to ${max}`, value);
    }
    for (let i = 0; i < value.length; i++) check(value[i], `${where}/${i}`);
    return value as T[];
  };
}

export function pair<A, B>(first: Check<A>, second: Check<B>): Check<[A, B]> {
  return (value, where) => {
    if (!Array.isArray(value) || value.length !== 2) return refuse(where, 'a pair', value);
    first(value[0], `${where}/0`);
    second(value[1], `${where}/1`);
    return value as [A, B];
  };
}

export function dictionary<T>(check: Check<T>): Check<Record<string, T>> {
  return (value, where) => {
    if (!isRecord(value)) return refuse(where, 'a record', value);
    for (const [key, entry] of Object.entries(value)) check(entry, `${where}/${key}`);
    return value as Record<string, T>;
  };
}

/** A record with these keys; with others too where `open`. */
export function record<F extends Record<string, Check<unknown>>>(
  fields: F,
  { open = false } = {},
): Check<{ [K in keyof F]: Checked<F[K]> }> {
  const keys = Object.keys(fields);
  return (value, where) => {
    if (!isRecord(value)) return refuse(where, 'a record', value);
    for (const key of keys) fields[key]!(value[key], `${where}/${key}`);
    const stray = open ? undefined : Object.keys(value).find((key) => !Object.hasOwn(fields, key));
    if (stray !== undefined) return refuse(`${where}/${stray}`, 'nothing', value[stray]);
    return value as { [K in keyof F]: Checked<F[K]> };
  };
}

/** A record that its `op` names among the variants. */
export function byOp<V extends Record<string, Check<object>>>(variants: V): Check<Checked<V[keyof V]>> {
  return (value, where) => {
    const op = isRecord(value) ? value.op : undefined;
    if (typeof op !== 'string' || !Object.hasOwn(variants, op)) {
      return refuse(`${where}/op`, `one of ${Object.keys(variants).join(', ')}`, op);
    }
    return variants[op]!(value, where) as Checked<V[keyof V]>;
  };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Longest text of a value in a message. */
const MAX_SHOWN = 80;

function refuse(where: string, expected: string, value: unknown): never {
  const shown =
    typeof value === 'object' && value !== null ? Object.prototype.toString.call(value) : String(value);
  const message = `${where}: expected ${expected}, got ${shown.slice(0, MAX_SHOWN)}`;
  throw new TurnoutError('TURNOUT_FRAME_INVALID', message, { where });
}
