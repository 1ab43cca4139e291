import { TurnoutError } from '../errors.js';
import type { Residency } from '../experts/backend.js';
import type { GenerateOptions } from '../model/generate.js';
import type { RouterChoice } from '../model/layer-router.js';
import type { OpenModelOptions } from '../model/moe-model.js';
import { BACKENDS, type BackendName } from '../model/open.js';
import type { RouterOverrides } from '../router/options.js';
import { toNumber } from './support.js';

/** The flags of `turnout run` as commander gives them. */
export interface RunFlags {
  readonly package: string;
  readonly backend?: string;
  readonly lanes?: string;
  readonly devices?: string;
  readonly residency?: string;
  readonly preset?: string;
  readonly options?: string;
  readonly capacityFactor?: string;
  readonly k?: string;
  readonly maxTokens?: string;
  readonly temperature?: string;
  readonly topK?: string;
  readonly topP?: string;
  readonly seed?: string;
  readonly stop?: readonly string[];
  readonly timeout?: string;
  readonly tokens?: true;
  readonly json?: true;
}

/** Backend, lanes, residency and rule. `overrides` is the value of --options. */
export function modelOptions(
  flags: RunFlags,
  overrides: Record<string, unknown> | undefined,
): OpenModelOptions {
  const lanes = lanesOf(flags);
  const router = routerChoice(flags, overrides);
  return {
    backend: oneOf('--backend', flags.backend ?? 'threads', BACKENDS) as BackendName,
    residency: oneOf('--residency', flags.residency ?? 'packed', ['packed', 'mapped']) as Residency,
    ...(lanes === undefined ? {} : { lanes }),
    ...(router === undefined ? {} : { router }),
  };
}

export function generateOptions(flags: RunFlags): GenerateOptions {
  const numbers = {
    maxTokens: toNumber(flags.maxTokens, '--max-tokens'),
    temperature: toNumber(flags.temperature, '--temperature') ?? 0.7,
    topK: toNumber(flags.topK, '--top-k'),
    topP: toNumber(flags.topP, '--top-p'),
    seed: toNumber(flags.seed, '--seed'),
    timeoutMs: toNumber(flags.timeout, '--timeout'),
  };
  const given = Object.entries(numbers).filter(([, value]) => value !== undefined);
  return { ...Object.fromEntries(given), ...(flags.stop ? { stop: flags.stop } : {}) };
}

/** One lane for each device; these backends have the CPU alone. */
function lanesOf(flags: RunFlags): number | undefined {
  const lanes = toNumber(flags.lanes, '--lanes');
  if (flags.devices === undefined) return lanes;
  const devices = flags.devices.split(',').map((device) => device.trim());
  const other = devices.find((device) => device !== 'cpu');
  if (other !== undefined) {
    const message = `--devices: ${flags.backend ?? 'threads'} runs experts on cpu; ${JSON.stringify(other)} needs a pinned process, which this version does not have`;
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
  const { preset, capacityFactor } = flags;
  const k = toNumber(flags.k, '--k');
  const options: Record<string, unknown> = { ...overrides };
  if (k !== undefined) options.select = { ...record(options.select), k };
  if (capacityFactor === 'none') options.admit = 'none';
  else if (capacityFactor !== undefined) {
    options.admit = { ...record(options.admit), factor: toNumber(capacityFactor, '--capacity-factor') };
  }
  const named = preset === undefined ? {} : { preset };
  if (Object.keys(options).length > 0) return { ...named, options: options as RouterOverrides };
  return preset === undefined ? undefined : named;
}

function record(value: unknown): object {
  return value !== null && typeof value === 'object' ? value : {};
}

function oneOf(flag: string, value: string, values: readonly string[]): string {
  if (values.includes(value)) return value;
  throw new TurnoutError(
    'TURNOUT_OPTIONS_INVALID',
    `${flag}: expected ${values.join(' or ')}, got ${value}`,
    { flag, got: value },
  );
}
