import { TurnoutError } from '../errors.js';
import type { Residency } from '../experts/backend.js';
import type { GenerateOptions } from '../model/generate.js';
import type { RouterChoice } from '../model/layer-router.js';
import type { OpenModelOptions } from '../model/moe-model.js';
import type { BackendName } from '../model/open.js';
import type { RouterOverrides } from '../router/options.js';
import { numberArgument } from './support.js';

/** The flags of `turnout run` as commander gives them. */
export interface RunFlags {
  readonly package: string;
  readonly backend: BackendName;
  readonly lanes?: number;
  readonly devices?: string;
  readonly residency: Residency;
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

/** Backend, lanes, residency and rule. `overrides` is the value of --options. */
export function modelOptions(
  flags: RunFlags,
  overrides: Record<string, unknown> | undefined,
): OpenModelOptions {
  const { backend, residency } = flags;
  const lanes = lanesOf(flags);
  const router = routerChoice(flags, overrides);
  return { backend, residency, ...(lanes && { lanes }), ...(router && { router }) };
}

/** What generation takes, for a continuation of `maxTokens` tokens where the flags name no other number. */
export function generateOptions(flags: RunFlags, maxTokens?: number): GenerateOptions {
  const { temperature, topK, topP, seed, stop, timeout: timeoutMs } = flags;
  const all = { maxTokens: flags.maxTokens ?? maxTokens, temperature, topK, topP, seed, stop, timeoutMs };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
}

/** One lane for each device; these backends have the CPU alone. */
function lanesOf(flags: RunFlags): number | undefined {
  const { lanes } = flags;
  if (flags.devices === undefined) return lanes;
  const devices = flags.devices.split(',').map((device) => device.trim());
  const other = devices.find((device) => device !== 'cpu');
  if (other !== undefined) {
    const message = `--devices: ${flags.backend} runs experts on cpu; ${JSON.stringify(other)} needs a pinned process, which this version does not have`;
    throw new TurnoutError('TURNOUT_DEVICE_UNAVAILABLE', message, { device: other });
  }
  if (flags.backend === 'inline' && devices.length > 1) {
    const message = `--devices: inline has one lane, got ${devices.length} devices; use --backend threads`;
    throw new TurnoutError('TURNOUT_OPTIONS_INVALID', message, { devices });
  }
  if (lanes !== undefined && devices.length > 1 && lanes !== devices.length) {
    const message = `--lanes ${lanes} and ${devices.length} devices: name one lane for each device, or one device`;
    throw new TurnoutError('TURNOUT_OPTIONS_INVALID', message, { lanes, devices });
  }
  return devices.length > 1 ? devices.length : lanes;
}

function routerChoice(
  flags: RunFlags,
  overrides: Record<string, unknown> | undefined,
): RouterChoice | undefined {
  const { preset, capacityFactor, k } = flags;
  const options: Record<string, unknown> = { ...overrides };
  if (k !== undefined) options.select = { ...record(options.select), k };
  if (capacityFactor === 'none') options.admit = 'none';
  else if (capacityFactor !== undefined) {
    options.admit = { ...record(options.admit), factor: capacityFactor };
  }
  const named = preset === undefined ? {} : { preset };
  if (Object.keys(options).length > 0) return { ...named, options: options as RouterOverrides };
  return preset === undefined ? undefined : named;
}

function record(value: unknown): object {
  return value !== null && typeof value === 'object' ? value : {};
}

/** The value of --capacity-factor: a number, or `none`. */
export function factorArgument(text: string): number | 'none' {
  return text === 'none' ? text : numberArgument(text);
}
