import type { GenerateOptions } from '../model/generate.js';
import type { ModelFlags } from './model-flags.js';

/** The flags of `turnout run` as commander gives them. */
export interface RunFlags extends ModelFlags {
  readonly package: string;
  readonly maxTokens?: number;
  readonly temperature: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly seed?: number;
  readonly stop?: readonly string[];
  readonly timeout?: number;
  readonly tokens?: true;
  readonly json?: true;
}

/** What generation takes, for a continuation of `maxTokens` tokens where the flags name no other number. */
export function generateOptions(flags: RunFlags, maxTokens?: number): GenerateOptions {
  const { temperature, topK, topP, seed, stop, timeout: timeoutMs } = flags;
  const all = { maxTokens: flags.maxTokens ?? maxTokens, temperature, topK, topP, seed, stop, timeoutMs };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
}
