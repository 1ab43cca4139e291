import type { Static, TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import { type ErrorCode, TurnoutError } from './errors.js';

/** A check made once from a schema: value -> the same value, typed; throws `code` with path, expectation and what came. */
export function checker<S extends TSchema>(schema: S, code: ErrorCode, what: string) {
  const compiled = Compile(schema);
  return (value: unknown): Static<S> => {
    if (compiled.Check(value)) return value as Static<S>;
    const { path, expected, params } = explain(problemsOf(value, (part) => compiled.Errors(part)));
    const got = shown(valueAt(value, path));
    const message = `${what}: at ${path === '' ? 'the top' : path}: ${expected}, got ${got}`;
    throw new TurnoutError(code, message, { path, expected: params, got });
  };
}

/** How much of each list and object is looked at for what is wrong, one after the other until it is found. */
const WIDTHS = [3, 16, 256] as const;
/** Values that are looked at in all: each takes some microseconds. */
const MAX_LOOKED_AT = 1000;

type Problem = ReturnType<ReturnType<typeof Compile>['Errors']>[number];

/** What is wrong with a value, or nothing where it is wrong far behind the beginning of a long list. */
function problemsOf(value: unknown, look: (part: unknown) => readonly Problem[]): readonly Problem[] {
  for (const width of WIDTHS) {
    const problems = look(beginning(value, width));
    if (problems.length > 0) return problems;
  }
  return [];
}

/** The beginning of a value: `width` of each list, and a thousand values in all. */
function beginning(value: unknown, width: number): unknown {
  let left = MAX_LOOKED_AT;
  const cut = (part: unknown): unknown => {
    left--;
    if (part === null || typeof part !== 'object') return part;
    if (Array.isArray(part)) return part.slice(0, Math.max(0, Math.min(width, left))).map(cut);
    const fields = Object.entries(part).slice(0, Math.max(1, Math.min(256, left)));
    return Object.fromEntries(fields.map(([key, field]) => [key, cut(field)]));
  };
  return cut(value);
}

/** What is wrong at the deepest place: where a value may be one of several things, that tells most. */
function explain(problems: readonly Problem[]) {
  const [first] = problems.toSorted((a, b) => depth(b) - depth(a));
  if (!first) return { path: '', expected: 'not valid, far behind the beginning of a list' };
  const here = problems.filter(({ instancePath }) => instancePath === first.instancePath);
  const own = here.filter(({ keyword }) => keyword !== 'anyOf');
  const words = new Set((own.length > 0 ? own : here).map(wordsOf));
  return { path: first.instancePath, expected: [...words].join(' or '), params: first.params };
}

function depth({ instancePath }: Problem): number {
  return instancePath.split('/').length;
}

function wordsOf({ keyword, message, params }: Problem): string {
  if (keyword === 'const')
    return `must be ${JSON.stringify((params as { allowedValue: unknown }).allowedValue)}`;
  if (keyword === 'boolean') return 'no such field is known';
  return message;
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
