import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createRouter } from '#turnout/router/create.js';
import { type OptionsOf, parseOptions, type RouterOptions } from '#turnout/router/options.js';
import { DROP_REASONS, type RouterInput, type Routing } from '#turnout/router/routing.js';
import { type Matrix, matrix } from '#turnout/tensor.js';

type TokenChoice = OptionsOf<'token-choice'>;

/** Rows of numbers -> Matrix; `cols` for a table without rows. */
export function table(rows: readonly (readonly number[])[], cols = rows[0]?.length ?? 0): Matrix {
  return matrix(Float32Array.from(rows.flat()), rows.length, cols);
}

/** A file of tests/vectors. */
export function vectors(name: string) {
  return JSON.parse(readFileSync(join(import.meta.dirname, '..', 'vectors', `${name}.json`), 'utf8'));
}

/** Token choice with the plainest stages: scores are the logits, weights are the scores; `changes` replace stages. */
export function plain(changes: Partial<Record<keyof TokenChoice, unknown>> = {}): TokenChoice {
  return parseOptions({
    algorithm: 'token-choice',
    score: { function: 'identity' },
    select: { k: 1 },
    weigh: { by: 'score' },
    ...changes,
  }) as TokenChoice;
}

/** Routes rows of logits with options. */
export function route(
  options: RouterOptions,
  logits: readonly (readonly number[])[],
  input: Omit<RouterInput, 'logits'> = {},
): Routing {
  return createRouter(options, logits[0].length).route({ ...input, logits: table(logits) });
}

export interface Assignment {
  token: number;
  choice: number;
  expert: number;
  score: number;
  weight: number;
  slot: number;
  reason: string;
}

/** The assignments of a routing as records. */
export function assignments(routing: Routing): Assignment[] {
  return Array.from(routing.token, (token, a) => ({
    token,
    choice: routing.choice[a],
    expert: routing.expert[a],
    score: routing.score[a],
    weight: routing.weight[a],
    slot: routing.slot[a],
    reason: DROP_REASONS[routing.reason[a]],
  }));
}

export const kept = (routing: Routing) => assignments(routing).filter(({ reason }) => reason === 'kept');

/** The experts of each token by choice. */
export function expertsOf(routing: Routing): number[][] {
  const result: number[][] = Array.from({ length: routing.tokens }, () => []);
  for (const { token, expert } of assignments(routing)) result[token].push(expert);
  return result;
}

/** The weights of each token by choice. */
export function weightsOf(routing: Routing): number[][] {
  const result: number[][] = Array.from({ length: routing.tokens }, () => []);
  for (const { token, weight } of assignments(routing)) result[token].push(weight);
  return result;
}
