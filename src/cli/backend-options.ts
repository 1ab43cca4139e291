import { Type } from 'typebox';
import { TurnoutError } from '../errors.js';
import type { Residency } from '../experts/backend.js';
import { parseDevices } from '../experts/device.js';
import type { LanePlan } from '../experts/placement.js';
import type { BackendName, BackendOptions } from '../model/open.js';
import { checker } from '../schema.js';
import { parseJson, readSource } from './support.js';

/** The flags that say where experts run, as commander gives them. */
export interface BackendFlags {
  readonly backend: BackendName;
  readonly residency: Residency;
  readonly lanes?: number;
  readonly devices?: string;
  readonly oneProcessPer?: 'expert' | 'device';
  readonly replicas?: number;
  readonly placement?: string;
  readonly onLostExpert?: 'fail' | 'drop';
}

const PROCESS_FLAGS = {
  oneProcessPer: '--one-process-per',
  placement: '--placement',
  onLostExpert: '--on-lost-expert',
} as const;

/** Throws TURNOUT_OPTIONS_INVALID for flags that are not of the backend, and what is wrong with a placement. */
export async function backendOptions(flags: BackendFlags): Promise<BackendOptions> {
  const { backend, residency } = flags;
  if (backend === 'processes') return { backend, residency, ...(await processOptions(flags)) };
  const { replicas } = flags;
  if (backend === 'inline' && replicas !== undefined)
    throw invalid('--replicas: inline holds each expert once; needs --backend threads or processes', {
      backend,
    });
  for (const [key, flag] of Object.entries(PROCESS_FLAGS)) {
    if (flags[key as keyof typeof PROCESS_FLAGS] === undefined) continue;
    throw invalid(`${flag}: needs --backend processes, got ${backend}`, { backend });
  }
  const lanes = lanesOf(flags);
  return {
    backend,
    residency,
    ...(lanes !== undefined && { lanes }),
    ...(replicas !== undefined && { replicas }),
  };
}

async function processOptions(flags: BackendFlags): Promise<BackendOptions> {
  const { lanes, devices, oneProcessPer, replicas, placement, onLostExpert } = flags;
  if (lanes !== undefined) {
    const message =
      '--lanes: with processes each lane is one; see --devices, --one-process-per and --replicas';
    throw invalid(message, { lanes });
  }
  return {
    ...(devices !== undefined && { devices: parseDevices(devices).map(({ name }) => name) }),
    ...(oneProcessPer && { oneProcessPer }),
    ...(replicas !== undefined && { replicas }),
    ...(placement !== undefined && { placement: await readPlacement(placement) }),
    ...(onLostExpert && { onLostExpert }),
  };
}

/** One lane for each device; all but processes have the CPU alone. */
function lanesOf({ backend, lanes, devices: list }: BackendFlags): number | undefined {
  if (list === undefined) return lanes;
  const devices = parseDevices(list).map(({ name }) => name);
  const other = devices.find((device) => device !== 'cpu');
  if (other !== undefined) {
    throw invalid(`--devices: ${backend} computes on cpu; ${other} needs --backend processes`, {
      device: other,
    });
  }
  if (backend === 'inline' && devices.length > 1) {
    const message = `--devices: inline has one lane, got ${devices.length} devices; use --backend threads`;
    throw invalid(message, { devices });
  }
  if (lanes !== undefined && devices.length > 1 && lanes !== devices.length) {
    const message = `--lanes ${lanes} and ${devices.length} devices: name one lane for each device, or one device`;
    throw invalid(message, { lanes, devices });
  }
  return devices.length > 1 ? devices.length : lanes;
}

/** What `turnout plan --json` prints, of which the lanes alone are read. */
const Placement = Type.Object({
  lanes: Type.Array(
    Type.Object({ device: Type.String(), experts: Type.Array(Type.Integer({ minimum: 0 })) }),
    { minItems: 1 },
  ),
});
const checkPlacement = checker(Placement, 'TURNOUT_INPUT_INVALID', '--placement');

/** The lanes in a file, alone or as `lanes` of a plan. Throws TURNOUT_FILE_MISSING or TURNOUT_INPUT_INVALID. */
async function readPlacement(file: string): Promise<readonly LanePlan[]> {
  const value = parseJson(await readSource(file), `--placement ${file}`);
  return checkPlacement(Array.isArray(value) ? { lanes: value } : value).lanes;
}

function invalid(message: string, details: Record<string, unknown>): TurnoutError {
  return new TurnoutError('TURNOUT_OPTIONS_INVALID', message, details);
}
