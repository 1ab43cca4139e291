import { type Static, Type } from 'typebox';
import { TurnoutError } from '../errors.js';
import { findProblem, show } from '../router/problem.js';
import type { RouterInput } from '../router/routing.js';
import { type Matrix, matrix } from '../tensor.js';

const SPECIAL: Readonly<Record<string, number>> = {
  NaN: Number.NaN,
  nan: Number.NaN,
  Infinity: Infinity,
  inf: Infinity,
  '-Infinity': -Infinity,
  '-inf': -Infinity,
};

const Numeric = Type.Union([Type.Number(), Type.Enum(Object.keys(SPECIAL))], {
  description:
    'A number; JSON has no NaN or infinity, so these are written as strings (or bare, as Python does).',
});
const Table = (description: string) => Type.Array(Type.Array(Numeric), { description });
const Natural = Type.Integer({ minimum: 0 });

/** What `turnout route` reads. */
export const RouteInput = Type.Object(
  {
    logits: Table('[T][E] gate outputs; "-Infinity" means: never this expert.'),
    sequences: Type.Optional(
      Type.Array(Natural, { description: 'Tokens per sequence, summing to T; one sequence where left out.' }),
    ),
    layer: Type.Optional(
      Type.Integer({ minimum: 0, description: 'Index of the layer; keys the random numbers.' }),
    ),
    tokenIds: Type.Optional(Type.Array(Natural, { description: '[T] token ids, for hash routing.' })),
    noise: Type.Optional(Table('[T][E] standard normal numbers to use instead of seeded ones.')),
    noiseScale: Type.Optional(Table('[T][E] scale of the noise before softplus, from a noisy gate.')),
    uniforms: Type.Optional(Table('[T][K] uniform numbers in [0, 1) to use instead of seeded ones.')),
    given: Type.Optional(
      Type.Object(
        {
          experts: Table('[T][K] experts, -1 for none.'),
          weights: Table('[T][K] their weights.'),
        },
        { additionalProperties: false, description: 'Recorded choices, for the algorithm "given".' },
      ),
    ),
  },
  { additionalProperties: false, description: 'Input of `turnout route`.' },
);
export type RouteInput = Static<typeof RouteInput>;

const TABLES = ['logits', 'noise', 'noiseScale', 'uniforms'] as const;

/** What the command needs of its input. E is undefined where there are no rows to tell it. */
export interface ParsedInput {
  readonly experts: number | undefined;
  /** The input with matrices; `choices` gives K, the width of `uniforms`. */
  toRouterInput(experts: number, choices: number): RouterInput;
}

/**
 * JSON value -> input. Throws TURNOUT_INPUT_INVALID for what is not of the schema, and TURNOUT_SHAPE_MISMATCH for rows
 * of another length than the first of the logits.
 */
export function parseInput(value: unknown): ParsedInput {
  const input = checkInput(value);
  const experts = input.logits[0]?.length;
  return {
    experts,
    toRouterInput: (E, K) => ({
      logits: table('logits', input.logits, input.logits.length, E),
      ...(input.sequences && { sequences: input.sequences.map((length) => ({ length })) }),
      ...(input.layer !== undefined && { layer: input.layer }),
      ...(input.tokenIds && { tokenIds: Int32Array.from(input.tokenIds) }),
      ...(input.noise && { noise: table('noise', input.noise, input.logits.length, E) }),
      ...(input.noiseScale && { noiseScale: table('noiseScale', input.noiseScale, input.logits.length, E) }),
      ...(input.uniforms && { uniforms: table('uniforms', input.uniforms, input.logits.length, K) }),
      ...(input.given && { given: recorded(input.given, input.logits.length, K) }),
    }),
  };
}

function recorded({ experts, weights }: NonNullable<RouteInput['given']>, T: number, K: number) {
  const chosen = table('given.experts', experts, T, K).data;
  const wrong = chosen.findIndex((e) => !Number.isInteger(e));
  if (wrong >= 0) {
    const at = `given.experts, row ${Math.floor(wrong / K)}, column ${wrong % K}`;
    throw new TurnoutError('TURNOUT_INPUT_INVALID', `${at}: expected a whole number, got ${chosen[wrong]}`, {
      got: chosen[wrong],
    });
  }
  return { experts: Int32Array.from(chosen), weights: table('given.weights', weights, T, K).data };
}

/** The tables are checked row by row below, not against the schema: they may hold millions of numbers. */
function checkInput(value: unknown): RouteInput {
  const isRecord = typeof value === 'object' && value !== null && !Array.isArray(value);
  const light = isRecord
    ? Object.fromEntries(
        Object.entries(value).map(([key, v]) => [
          key,
          TABLES.includes(key as never) && Array.isArray(v) ? [] : v,
        ]),
      )
    : value;
  const problem = findProblem(RouteInput, light, '');
  if (problem) {
    const { path, expected, got } = problem;
    throw new TurnoutError('TURNOUT_INPUT_INVALID', `${path || 'input'}: expected ${expected}, got ${got}`, {
      path,
      expected,
      got,
    });
  }
  return value as RouteInput;
}

function table(name: string, rows: readonly unknown[], T: number, width: number): Matrix {
  if (rows.length !== T) {
    throw new TurnoutError('TURNOUT_SHAPE_MISMATCH', `${name}: expected T = ${T} rows, got ${rows.length}`, {
      name,
      expected: T,
      got: rows.length,
    });
  }
  const data = new Float32Array(T * width);
  rows.forEach((row, t) => {
    const length = Array.isArray(row) ? row.length : show(row);
    if (length !== width) {
      throw new TurnoutError(
        'TURNOUT_SHAPE_MISMATCH',
        `${name}, row ${t}: expected ${width} numbers, got ${length}`,
        { name, row: t, expected: width, got: length },
      );
    }
    (row as unknown[]).forEach((value, column) => {
      data[t * width + column] = toNumber(value, `${name}, row ${t}, column ${column}`);
    });
  });
  return matrix(data, T, width);
}

function toNumber(value: unknown, where: string): number {
  if (typeof value === 'number') return value;
  const special = typeof value === 'string' ? SPECIAL[value] : undefined;
  if (special !== undefined) return special;
  throw new TurnoutError(
    'TURNOUT_INPUT_INVALID',
    `${where}: expected a number or one of ${Object.keys(SPECIAL).join(', ')}, got ${show(value)}`,
    { where, got: value },
  );
}
