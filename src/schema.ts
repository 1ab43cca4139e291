import type { Static, TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import { type ErrorCode, TurnoutError } from './errors.js';

/** A check made once from a schema: value -> the same value, typed; throws `code` with path, expectation and what came. */
export function checker<S extends TSchema>(schema: S, code: ErrorCode, what: string) {
  const compiled = Compile(schema);
  return (value: unknown): Static<S> => {
    if (compiled.Check(value)) return value as Static<S>;
    const [first] = compiled.Errors(value);
    const path = first?.instancePath ?? '';
    const got = shown(valueAt(value, path));
    // What a closed object says of a field that it does not have.
    const problem = first?.keyword === 'boolean' ? 'no such field is known' : (first?.message ?? 'not valid');
    const message = `${what}: at ${path === '' ? 'the top' : path}: ${problem}, got ${got}`;
    throw new TurnoutError(code, message, { path, expected: first?.params, got });
  };
}

function valueAt(value: unknown, pointer: string): unknown {
  const keys = pointer.split('/').slice(1);
  return keys.reduce<unknown>((at, key) => {
    const name = key.replaceAll('~1', '/').replaceAll('~0', '~');
    return at !== null && typeof at === 'object' ? (at as Record<string, unknown>)[name] : undefined;
  }, value);
}

const MOST_SHOWN = 80;
const MOST_ENTRIES = 8;

/** A value from outside as short text for messages: JSON where it is small. Never long, however large or deep the value is. */
export function shown(value: unknown, levels = 3): string {
  if (value === undefined) return 'nothing';
  if (typeof value === 'string') return shorten(JSON.stringify(value.slice(0, MOST_SHOWN)));
  if (value === null || typeof value !== 'object') return String(value);
  const list = Array.isArray(value);
  const [open, close] = list ? '[]' : '{}';
  if (levels === 0) return `${open}...${close}`;
  const entries = Object.entries(list ? value.slice(0, MOST_ENTRIES) : value);
  const texts = entries.slice(0, MOST_ENTRIES).map(([key, item]) => {
    const text = shown(item, levels - 1);
    return list ? text : `${shown(key)}:${text}`;
  });
  const more = (list ? value.length : entries.length) > MOST_ENTRIES ? ',...' : '';
  return shorten(`${open}${texts.join()}${more}${close}`);
}

function shorten(text: string): string {
  return text.length > MOST_SHOWN ? `${text.slice(0, MOST_SHOWN - 3)}...` : text;
}
