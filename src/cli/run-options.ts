import type { GenerateOptions } from '../model/generate.js';
import type { RouterChoice } from '../model/layer-router.js';
import type { OpenModelOptions } from '../model/moe-model.js';
import type { RouterOverrides } from '../router/options.js';
import { type BackendFlags, backendOptions } from './backend-options.js';

/** The flags of `turnout run` as commander gives them. */
export interface RunFlags extends BackendFlags {
  readonly package: string;
  readonly preset?: string;
  readonly options?: string;
  readonly capacityFactor?: number | 'none';
  readonly k?: number;
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

/** Where experts run, and the rule. `overrides` is the value of --options. */
export async function modelOptions(
  flags: RunFlags,
  overrides: Record<string, unknown> | undefined,
): Promise<OpenModelOptions> {
  return { ...(await backendOptions(flags)), router: routerChoice(flags, overrides) };
}

/** What generation takes, for a continuation of `maxTokens` tokens where the flags name no other number. */
export function generateOptions(flags: RunFlags, maxTokens?: number): GenerateOptions {
  const { temperature, topK, topP, seed, stop, timeout: timeoutMs } = flags;
  const all = { maxTokens: flags.maxTokens ?? maxTokens, temperature, topK, topP, seed, stop, timeoutMs };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
}

function routerChoice(
  { preset, k, capacityFactor }: RunFlags,
  overrides: Record<string, unknown> | undefined,
): RouterChoice {
  const options = overrides as RouterOverrides | undefined;
  return { ...(preset !== undefined && { preset }), ...(options && { options }), k, capacityFactor };
}
