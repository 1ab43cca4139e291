import type { TSchema } from 'typebox';
import { Value } from 'typebox/value';

/** The first thing wrong with a value: where, what was expected, what came. */
export interface Problem {
  /** Keys from the outermost record, joined by dots; '' for the value itself. */
  readonly path: string;
  readonly expected: string;
  readonly got: string;
}

type Json = Record<string, unknown>;
interface Node {
  readonly type?: string;
  readonly const?: unknown;
  readonly enum?: readonly unknown[];
  readonly anyOf?: readonly TSchema[];
  readonly properties?: Record<string, TSchema>;
  readonly required?: readonly string[];
  readonly items?: TSchema;
}

const join = (path: string, key: string | number) => (path === '' ? `${key}` : `${path}.${key}`);
const isRecord = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** A value as an error shows it, cut to a readable length. */
export function show(value: unknown): string {
  if (typeof value === 'number') return String(value);
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

/** value -> what is wrong with it first, in words that name one variant of a union instead of all; nothing where it fits. */
export function findProblem(schema: TSchema, value: unknown, path: string): Problem | undefined {
  if (Value.Check(schema, value)) return undefined;
  const node = schema as Node;
  if (node.anyOf) return unionProblem(node.anyOf, value, path);
  if (node.properties && isRecord(value)) return recordProblem(node, value, path);
  if (node.items && Array.isArray(value)) {
    const items = node.items;
    const index = (value as readonly unknown[]).findIndex((item) => !Value.Check(items, item));
    if (index >= 0) return findProblem(items, value[index], join(path, index));
  }
  return { path, expected: expectation(schema, value), got: show(value) };
}

function recordProblem(node: Node, value: Json, path: string): Problem {
  const properties = node.properties!;
  const known = Object.keys(properties);
  const unknown = Object.keys(value).find((key) => !known.includes(key));
  if (unknown !== undefined) {
    return {
      path: join(path, unknown),
      expected: `one of the keys ${known.join(', ')}`,
      got: `"${unknown}"`,
    };
  }
  for (const key of known) {
    const required = node.required?.includes(key);
    if (value[key] === undefined && !required) continue;
    const problem = findProblem(properties[key], value[key], join(path, key));
    if (problem) return problem;
  }
  return { path, expected: 'a valid record', got: show(value) };
}

function unionProblem(variants: readonly TSchema[], value: unknown, path: string): Problem {
  const nodes = variants as readonly Node[];
  const literals = nodes.filter((node) => node.const !== undefined).map((node) => show(node.const));
  const records = nodes.filter((node) => node.properties);
  if (!isRecord(value)) {
    const expected = [...literals, ...(records.length > 0 ? ['a record'] : [])].join(' or ');
    return { path, expected, got: show(value) };
  }
  const chosen = chooseVariant(records, value);
  if (chosen) return findProblem(chosen as TSchema, value, path) as Problem;
  const [key, options] = discriminator(records);
  return { path: join(path, key), expected: `one of ${options.join(', ')}`, got: show(value[key]) };
}

/** Of the variants whose literal keys all fit, the one that knows most keys of the value, then the one with most literals. */
function chooseVariant(records: readonly Node[], value: Json): Node | undefined {
  const literalsOf = (node: Node) =>
    Object.entries(node.properties!).filter(([, schema]) => (schema as Node).const !== undefined);
  const fits = (node: Node) =>
    literalsOf(node).every(
      ([key, schema]) =>
        value[key] === (schema as Node).const || (value[key] === undefined && !node.required?.includes(key)),
    );
  const unknown = (node: Node) => Object.keys(value).filter((key) => !(key in node.properties!)).length;
  const given = (node: Node) => literalsOf(node).filter(([key]) => value[key] !== undefined).length;
  return records.filter(fits).sort((a, b) => unknown(a) - unknown(b) || given(b) - given(a))[0];
}

function discriminator(records: readonly Node[]): [string, string[]] {
  const entries = records.flatMap((node) => Object.entries(node.properties!));
  const key = entries.find(([, schema]) => (schema as Node).const !== undefined)![0];
  return [key, entries.filter(([k]) => k === key).map(([, schema]) => show((schema as Node).const))];
}

const LIMITS = { minimum: 'at least', exclusiveMinimum: 'above', maximum: 'at most' } as const;

function expectation(schema: TSchema, value: unknown): string {
  const node = schema as Node & Record<string, unknown>;
  if (node.const !== undefined) return show(node.const);
  if (node.enum) return `one of ${node.enum.join(', ')}`;
  const kind =
    node.type === 'integer'
      ? 'a whole number'
      : node.properties
        ? 'a record'
        : node.type === 'array'
          ? 'a list'
          : `a ${node.type}`;
  const limits = Object.entries(LIMITS)
    .filter(([key]) => node[key] !== undefined)
    .map(([key, word]) => `${word} ${node[key]}`);
  return value === undefined ? kind : [kind, ...limits].join(' ');
}
