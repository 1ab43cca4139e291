import { TurnoutError } from '../errors.js';
import type { ExpertFile } from './backend.js';
import { Fleet, type FleetOptions } from './fleet.js';
import type { Generation } from './lane.js';
import { LanesBackend } from './lanes-backend.js';
import { type LanePlan, placementOf, placeOnDevices } from './placement.js';
import type { ProcessLane } from './process-lane.js';
import type { HeldExpert } from './process-messages.js';
import { checkSum, checkSummed, marksOf, type SummedFile } from './versions.js';

export interface ProcessesOptions extends FleetOptions {
  /** Where experts compute: `cpu`, `cpu:0-1`, `cuda:0`, `webgpu`, ...; `['cpu']` where left out. */
  readonly devices?: readonly string[];
  /**
   * One process for each replica of an expert, or one for each device with all experts of that device. Where left out:
   * `device` on a GPU, whose contexts cost memory, and `expert` on a CPU.
   */
  readonly oneProcessPer?: 'expert' | 'device';
  /** How many devices hold each expert: 1 where left out, at most the number of devices. */
  readonly replicas?: number;
  /** Names every lane, instead of `devices`, `oneProcessPer` and `replicas`; `turnout plan` makes one from loads. */
  readonly placement?: readonly LanePlan[];
}

/** What changes while calls go on. */
export interface BackendUpdate {
  readonly placement?: readonly LanePlan[];
  readonly experts?: readonly ExpertUpdate[];
}

/** A new version of an expert: its files, with their SHA-256 in hexadecimal. */
export interface ExpertUpdate extends SummedFile {
  readonly expert: number;
  /** Its external data, where it has any. */
  readonly data?: readonly SummedFile[];
}

/**
 * Opens experts in processes of their own, pinned to devices and supervised: see docs/lifecycle.md. Checks every file
 * and device before it returns: throws what `openInline` throws, TURNOUT_OPTIONS_INVALID, and
 * TURNOUT_DEVICE_UNAVAILABLE for a device that cannot be had.
 */
export async function openProcesses(
  files: readonly ExpertFile[],
  options: ProcessesOptions = {},
): Promise<ProcessesBackend> {
  const experts = files.length;
  if (experts === 0) {
    throw new TurnoutError('TURNOUT_EXPERTS_INVALID', 'expected at least one expert file, got none');
  }
  const plan = planOf(experts, options);
  const placement = placementOf(plan, experts);
  const versions = await Promise.all(files.map(firstVersion));
  const fleet = new Fleet(options);
  try {
    const lanes = await fleet.start(
      plan.map((lane) => ({ device: lane.device, files: lane.experts.map((e) => versions[e]!) })),
    );
    return new ProcessesBackend(fleet, { lanes, placement, keys: versions.map(({ key }) => key) }, versions);
  } catch (error) {
    await fleet.close();
    throw error;
  }
}

/** Throws TURNOUT_OPTIONS_INVALID. */
function planOf(experts: number, options: ProcessesOptions): readonly LanePlan[] {
  const { placement } = options;
  if (!placement) return placeOnDevices(experts, options);
  const stray = (['devices', 'oneProcessPer', 'replicas'] as const).find((key) => options[key] !== undefined);
  if (stray === undefined) return placement;
  const message = `${stray}: placement names every lane with its device and experts; leave ${stray} out`;
  throw new TurnoutError('TURNOUT_OPTIONS_INVALID', message, { option: stray });
}

async function firstVersion({ path, data = [] }: ExpertFile, key: number): Promise<HeldExpert> {
  return { key, path, marks: await marksOf([path, ...data]) };
}

/** Experts in supervised processes, whose placement and versions can change while calls go on. */
export class ProcessesBackend extends LanesBackend {
  readonly #fleet: Fleet;
  #lanes: readonly ProcessLane[];
  /** [E] what lanes hold of each expert. */
  #versions: readonly HeldExpert[];
  #nextKey: number;
  #updating: Promise<unknown> = Promise.resolve();

  constructor(
    fleet: Fleet,
    generation: Generation & { readonly lanes: readonly ProcessLane[] },
    versions: readonly HeldExpert[],
  ) {
    super(generation, fleet.info(versions.length));
    this.#fleet = fleet;
    this.#lanes = generation.lanes;
    this.#versions = versions;
    this.#nextKey = versions.length;
  }

  /**
   * Applies a new placement, new versions of experts, or both. No call is lost: each sees what was there when it began,
   * and those that begin after this has resolved see the new. Where a process cannot be had or cannot open a version,
   * it throws what `openProcesses` throws, or TURNOUT_EXPERT_CHANGED, and everything stays as it was. One at a time.
   */
  update(update: BackendUpdate): Promise<void> {
    const result = this.#updating.then(() => this.#update(update));
    this.#updating = result.catch(() => {});
    return result;
  }

  async #update(update: BackendUpdate): Promise<void> {
    this.checkOpen();
    const { placement, experts = [] } = checkUpdate(update);
    const plan = placement ?? this.#plan();
    const replicas = placementOf(plan, this.experts);
    const versions = await this.#newVersions(experts);
    const lanes = this.#fleet.match(
      plan.map((lane) => ({ device: lane.device, files: lane.experts.map((e) => versions[e]!) })),
      this.#lanes,
    );
    await this.#fleet.prepare(lanes);
    const before = this.#lanes;
    this.#lanes = lanes.map(({ lane }) => lane);
    this.#versions = versions;
    await this.change({ lanes: this.#lanes, placement: replicas, keys: versions.map(({ key }) => key) });
    await this.#fleet.settle(lanes, before);
  }

  #plan(): LanePlan[] {
    return this.lanes().map(({ device, experts }) => ({ device, experts }));
  }

  async #newVersions(updates: readonly ExpertUpdate[]): Promise<HeldExpert[]> {
    const versions = [...this.#versions];
    const twice = updates.find(({ expert }, i) => updates.findIndex((other) => other.expert === expert) < i);
    if (twice) {
      const message = `experts: expected each expert once, got ${twice.expert} twice`;
      throw new TurnoutError('TURNOUT_OPTIONS_INVALID', message, { expert: twice.expert });
    }
    for (const { expert, path, sha256, data = [] } of updates) {
      if (!Number.isInteger(expert) || !versions[expert]) {
        const message = `experts: expected a number from 0 to ${versions.length - 1}, got ${expert}`;
        throw new TurnoutError('TURNOUT_OPTIONS_INVALID', message, { expert });
      }
      const files = [{ path, sha256 }, ...data];
      for (const file of files) checkSummed(file, `expert ${expert}`);
      // Taken first, so that a file that is replaced after its sum was right does not pass for it.
      const marks = await marksOf(files.map((file) => file.path));
      for (const file of files) await checkSum(file.path, file.sha256);
      versions[expert] = { key: this.#nextKey++, path, marks };
    }
    return versions;
  }

  protected override async closeLanes(): Promise<void> {
    await this.#updating;
    await this.#fleet.close();
  }
}

/** Throws TURNOUT_OPTIONS_INVALID for what is no update at all. */
export function checkUpdate<U extends { readonly experts?: readonly unknown[] }>(update: U): U {
  if (typeof update === 'object' && update !== null && Array.isArray(update.experts ?? [])) return update;
  const message = `update: expected {placement?, experts?: [...]}, got ${JSON.stringify(update)}`;
  throw new TurnoutError('TURNOUT_OPTIONS_INVALID', message);
}
