import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import type { ExpertSet } from '../support/experts.js';
import { partsOf } from '../support/parts.js';

export const PARTS = ['roundtrip', 'share', 'memory', 'startup', 'recovery'] as const;
export type Part = (typeof PARTS)[number];

export interface Settings {
  readonly only: readonly Part[];
  /** E, k, H and F of the layer. */
  readonly experts: number;
  readonly k: number;
  readonly hidden: number;
  readonly inner: number;
  /** T of the layer calls. */
  readonly tokens: readonly number[];
  /** n of the round trips. */
  readonly rows: readonly number[];
  /** Readings of each time. */
  readonly rounds: number;
  /** Numbers of processes that are started together. */
  readonly processes: readonly number[];
  readonly kills: number;
}

/** What each part is given. */
export interface Bench {
  readonly settings: Settings;
  /** For ONNX files; removed at the end. */
  readonly folder: string;
  /** The experts of the layer, written when first asked for. */
  big(): Promise<ExpertSet>;
}

export function parseSettings(args: readonly string[]): { settings: Settings; json: string | undefined } {
  const text = { type: 'string' } as const;
  const sizes = { experts: text, k: text, hidden: text, inner: text, tokens: text, rows: text };
  const runs = { rounds: text, processes: text, kills: text, only: text, json: text };
  const { values } = parseArgs({ args: [...args], options: { ...sizes, ...runs } });
  const list = (given: string) => given.split(',').map(Number);
  const only = partsOf(values.only, PARTS);
  const settings = {
    only,
    experts: Number(values.experts ?? 16),
    k: Number(values.k ?? 2),
    hidden: Number(values.hidden ?? 1024),
    inner: Number(values.inner ?? 2048),
    tokens: list(values.tokens ?? '1,4,16,64,256,1024'),
    rows: list(values.rows ?? '1,4,16,64,256,1024'),
    rounds: Number(values.rounds ?? 9),
    processes: list(values.processes ?? '1,8,64'),
    kills: Number(values.kills ?? 20),
  };
  return { settings, json: values.json };
}

/** Two lanes, each bound to a core of its own. */
export const TWO_CORES: readonly string[] = [0, 1].map((i) => `cpu:${i % availableParallelism()}`);
