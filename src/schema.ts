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
    const got = JSON.stringify(valueAt(value, path));
    const message = `${what}: at ${path === '' ? 'the top' : path}: ${first?.message ?? 'not valid'}, got ${shorten(got)}`;
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

function shorten(text: string | undefined): string {
  if (text === undefined) return 'nothing';
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
