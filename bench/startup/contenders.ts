import type { Residency } from '../../src/experts/backend.js';
import type { BackendName, BackendOptions } from '../../src/model/open.js';
import type { FusedFiles } from './fused.js';
import type { StartupSettings } from './settings.js';
import { allFiles, type Source } from './source.js';
import type { Task } from './task.js';

export interface Contender {
  readonly name: string;
  readonly residency: Residency | null;
  /** What it is: the runtime's own, the rival, or a limit that nothing can beat. */
  readonly role: 'runtime' | 'rival' | 'limit';
  /** Experts that it opens, for figures of one; null where it opens a whole model. */
  readonly experts: number | null;
  readonly task: Task;
  /** The contender that it is set beside. */
  readonly beside: { readonly name: string; readonly residency: Residency } | null;
}

export const SESSIONS = 'bare sessions';
export const FUSED = 'fused, one session';
export const READ = 'read the bytes';
const ALL_SESSIONS = 'bare sessions, all files';

/** More processes than this take minutes, so they are one for each device then. */
const MOST_PROCESSES = 64;
/** Bytes read at most: the rest is told by the rate. */
const MOST_READ = 2 ** 31;

export interface Contenders {
  readonly contenders: readonly Contender[];
  /** What was left out, and why. */
  readonly notes: readonly string[];
}

/** Who is measured, as far as `memoryBytes` reach. */
export async function contendersOf(
  source: Source,
  settings: StartupSettings,
  memoryBytes: number,
): Promise<Contenders> {
  const notes: string[] = [];
  const contenders: Contender[] = [];
  for (const residency of settings.residencies) {
    if (residency === 'mapped' && !source.float32) {
      notes.push('mapped: left out, because only float32 weights can be mapped');
      continue;
    }
    const fits = (copies: number) => residency === 'mapped' || copies * source.bytes <= memoryBytes;
    const all = [
      ...settings.backends.map((backend) => runtime(backend, { source, settings, residency })),
      bareSessions(source, residency),
      ...(source.fused ? [fusedSession(source.fused, residency, settings.lanes)] : []),
    ];
    const left = all.filter(({ copies }) => !fits(copies));
    if (left.length > 0) notes.push(tooLarge(left, source.bytes));
    contenders.push(...all.filter(({ copies }) => fits(copies)).map(({ contender }) => contender));
  }
  const files = await allFiles(source.files);
  contenders.push({
    ...{ name: READ, residency: null, role: 'limit', experts: source.files.length, beside: null },
    task: { kind: 'read', files, mostBytes: MOST_READ },
  });
  if (!source.fused) notes.push(`${FUSED}: left out, because the experts are of no form that it knows`);
  if (source.model) contenders.push(...models(source.model, source, settings));
  return { contenders, notes };
}

/** With what it copies of all weights. */
interface Sized {
  readonly contender: Contender;
  readonly copies: number;
}

interface Given {
  readonly source: Source;
  readonly settings: StartupSettings;
  readonly residency: Residency;
}

function runtime(backend: BackendName, { source, settings, residency }: Given): Sized {
  const { lanes, replicas } = settings;
  const copies = copiesOf(backend, lanes, replicas);
  return {
    copies,
    contender: {
      ...{ name: backend, residency, role: 'runtime', experts: source.files.length },
      task: {
        kind: 'backend',
        files: source.files,
        options: optionsOf(backend, settings, residency, source),
      },
      beside: { name: SESSIONS, residency },
    },
  };
}

function optionsOf(
  backend: BackendName,
  { lanes, replicas, oneProcessPer }: StartupSettings,
  residency: Residency,
  { files }: Source,
): BackendOptions {
  const common = { backend, residency, ...(replicas !== undefined && backend !== 'inline' && { replicas }) };
  if (backend === 'inline') return common;
  if (backend !== 'processes') return { ...common, lanes };
  const per = oneProcessPer ?? (files.length > MOST_PROCESSES ? 'device' : 'expert');
  const devices = Array.from({ length: per === 'device' ? lanes : (replicas ?? 1) }, () => 'cpu');
  return { ...common, devices, oneProcessPer: per };
}

function bareSessions({ files }: Source, residency: Residency): Sized {
  const task: Task = { kind: 'sessions', files, residency, experts: true };
  const what = { name: SESSIONS, residency, role: 'limit', experts: files.length, beside: null } as const;
  return { copies: 1, contender: { ...what, task } };
}

function fusedSession(
  { files, experts, layerExperts }: FusedFiles,
  residency: Residency,
  threads: number,
): Sized {
  const task: Task = { kind: 'fused', files, residency, threads, experts: layerExperts };
  const beside = { name: SESSIONS, residency };
  // It keeps the weights as they are in the file beside those that it packs.
  return { copies: 2, contender: { name: FUSED, residency, role: 'rival', experts, task, beside } };
}

function models(model: NonNullable<Source['model']>, source: Source, settings: StartupSettings): Contender[] {
  const { folder, files } = model;
  return settings.residencies
    .filter((residency) => residency === 'packed' || source.float32)
    .flatMap((residency) => [
      ...settings.backends.map(
        (backend): Contender => ({
          ...{ name: `model, ${backend}`, residency, role: 'runtime', experts: null },
          task: { kind: 'model', folder, options: optionsOf(backend, settings, residency, source) },
          beside: { name: ALL_SESSIONS, residency },
        }),
      ),
      {
        ...({ name: ALL_SESSIONS, residency, role: 'limit', experts: null, beside: null } as const),
        task: { kind: 'sessions', files, residency, experts: false } as const,
      },
    ]);
}

/** How often all weights lie in memory where all are packed, at most. */
export function mostCopies({ backends, residencies, lanes, replicas }: StartupSettings): number {
  if (!residencies.includes('packed')) return 0;
  return Math.max(...backends.map((backend) => copiesOf(backend, lanes, replicas)));
}

function copiesOf(backend: BackendName, lanes: number, replicas: number | undefined): number {
  const held = replicas ?? lanes;
  return { auto: 1 + held, inline: 1, threads: held, processes: replicas ?? 1 }[backend];
}

function tooLarge(left: readonly Sized[], bytes: number): string {
  const names = left.map(({ contender }) => contender.name).join(', ');
  const residency = left[0]!.contender.residency;
  return `${residency}: ${names} left out, because ${(bytes / 1e9).toFixed(1)} GB of weights and their copies do not fit into memory`;
}
