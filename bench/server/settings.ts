import { parseArgs } from 'node:util';
import type { BackendName, BackendOptions } from '../../src/model/open.js';
import { partsOf } from '../support/parts.js';

export const PARTS = ['throughput', 'overload'] as const;
export type Part = (typeof PARTS)[number];

export interface Settings {
  readonly only: readonly Part[];
  readonly package: string;
  /** Where the experts of the engine and the server run. */
  readonly model: BackendOptions;
  /** Concurrent clients. */
  readonly clients: readonly number[];
  /** Tokens of each answer. */
  readonly tokens: number;
  /** Readings of each contender, and seconds of one. */
  readonly rounds: number;
  readonly seconds: number;
  /** Minutes of overload. */
  readonly minutes: number;
  /** Options of Node for the server's process, such as --cpu-prof. */
  readonly node: readonly string[];
}

export interface Watch {
  /** Once aborted, nothing more is measured. */
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((text: string) => void) | undefined;
}

export function parseSettings(args: readonly string[]): { settings: Settings; json: string | undefined } {
  const text = { type: 'string' } as const;
  const sizes = { clients: text, tokens: text, rounds: text, seconds: text, minutes: text };
  const { values } = parseArgs({
    args: [...args],
    options: { ...sizes, only: text, package: text, backend: text, node: text, json: text },
  });
  const only = partsOf(values.only, PARTS);
  const settings = {
    only,
    package: values.package ?? 'experts/babel',
    model: { backend: (values.backend ?? 'inline') as BackendName },
    clients: (values.clients ?? '1,8,32,128').split(',').map(Number),
    tokens: Number(values.tokens ?? 128),
    rounds: Number(values.rounds ?? 5),
    seconds: Number(values.seconds ?? 6),
    minutes: Number(values.minutes ?? 4),
    node: values.node?.split(' ') ?? [],
  };
  return { settings, json: values.json };
}
