import { TurnoutError } from '../errors.js';
import type { Residency } from '../experts/backend.js';
import type { GenerateOptions } from '../model/generate.js';
import type { RouterChoice } from '../model/layer-router.js';
import type { OpenModelOptions } from '../model/moe-model.js';
import type { BackendName } from '../model/open.js';
import type { RouterOverrides } from '../router/options.js';

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
  return { backend, residency, ...(lanes === undefined ? {} : { lanes }), router };
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
  { preset, k, capacityFactor }: RunFlags,
  overrides: Record<string, unknown> | undefined,
): RouterChoice {
  const options = overrides as RouterOverrides | undefined;
  return { ...(preset !== undefined && { preset }), ...(options && { options }), k, capacityFactor };
}
