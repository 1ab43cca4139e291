import { readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import type { ExpertBackend, Residency } from '../../src/experts/backend.js';
import { wholeBatch } from '../../src/experts/batches.js';
import { openProcesses, type ProcessesOptions } from '../../src/experts/processes.js';
import type { ExpertSet } from '../support/experts.js';
import { printTable } from '../support/table.js';
import { type Bench, TWO_CORES } from './settings.js';

type Layout = Required<Pick<ProcessesOptions, 'oneProcessPer' | 'devices' | 'replicas'>>;

const LAYOUTS: readonly Layout[] = [
  { oneProcessPer: 'expert', devices: ['cpu'], replicas: 1 },
  { oneProcessPer: 'device', devices: TWO_CORES, replicas: 2 },
];
/** Rows of the call that each expert has computed before memory is read: processes keep what a call needed. */
const ROWS = [64, 1024] as const;

/** Bytes of one process. */
export interface ProcessFigure {
  readonly experts: number;
  readonly rss: number;
  /** In no other process. */
  readonly private: number;
  readonly shared: number;
  readonly anonymous: number;
  /** Private pages of the files of weights: those that are mapped, and by this process alone. */
  readonly privateWeightPages: number;
  /** Of the float32 weights of its experts; what ONNX Runtime packs may be larger by its padding. */
  readonly weights: number;
  /** Private, without the weights: packed ones are counted by their size, mapped ones by their private pages. */
  readonly privateBeyondWeights: number;
}

export interface MemoryFigure extends Layout {
  readonly residency: Residency;
  readonly rowsPerExpert: number;
  readonly processes: readonly ProcessFigure[];
}

/** Memory of expert processes as Linux counts it, once every expert has computed. */
export async function memory({ big }: Bench): Promise<MemoryFigure[]> {
  if (process.platform !== 'linux') {
    console.log('\nMemory: only Linux tells');
    return [];
  }
  const set = await big();
  const figures: MemoryFigure[] = [];
  for (const layout of LAYOUTS) {
    for (const residency of ['packed', 'mapped'] as const) {
      await using backend = await openProcesses(set.files, { ...layout, residency });
      for (const rowsPerExpert of ROWS) {
        await computeAll(backend, layout.replicas, rowsPerExpert);
        const processes = backend
          .lanes()
          .map((lane) => processFigure(lane.process!.pid!, set, { residency, experts: lane.experts.length }));
        figures.push({ ...layout, residency, rowsPerExpert, processes });
      }
    }
  }
  printTable('Memory of a process after a call of each expert, MB: median (most)', figures.map(tableRow));
  return figures;
}

/** Every replica of every expert: a call of one expert is split over the lanes that hold it. */
async function computeAll(backend: ExpertBackend, replicas: number, rowsPerExpert: number): Promise<void> {
  const before = backend.lanes();
  const { experts, hidden } = backend;
  const rows = rowsPerExpert * replicas;
  const x = new Float32Array(rows * hidden).fill(1);
  for (let expert = 0; expert < experts; expert++) await backend.run([wholeBatch(expert, x, hidden)]);
  for (const [i, lane] of backend.lanes().entries()) {
    // Lanes share a call as they are fast: about the same rows each, and every expert.
    const expected = rowsPerExpert * lane.experts.length;
    const got = lane.rows - before[i]!.rows;
    if (Math.abs(got - expected) > expected / 2) {
      throw new Error(`lane ${i}: expected about ${expected} rows, got ${got}`);
    }
  }
}

function processFigure(
  pid: number,
  { files, hidden, inner }: ExpertSet,
  { residency, experts }: { residency: Residency; experts: number },
): ProcessFigure {
  const all = readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1');
  const privateBytes = sum(all, 'Private_Clean', 'Private_Dirty');
  const weights = experts * 2 * hidden * inner * 4;
  const privateWeightPages = sum(mappingsOf(pid, dirname(files[0]!.path)), 'Private_Clean', 'Private_Dirty');
  return {
    experts,
    rss: sum(all, 'Rss'),
    private: privateBytes,
    shared: sum(all, 'Shared_Clean', 'Shared_Dirty'),
    anonymous: sum(all, 'Anonymous'),
    privateWeightPages,
    weights,
    privateBeyondWeights: privateBytes - privateWeightPages - (residency === 'packed' ? weights : 0),
  };
}

/** What smaps says of the files in a folder that a process maps. */
function mappingsOf(pid: number, folder: string): string {
  const text = readFileSync(`/proc/${pid}/smaps`, 'latin1');
  const mappings = text.split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
  return mappings.filter((mapping) => mapping.split('\n', 1)[0]!.includes(folder)).join('');
}

/** Bytes of all lines with one of these names. */
function sum(text: string, ...names: readonly string[]): number {
  const lines = text.matchAll(/^(\w+):\s+(\d+) kB$/gm);
  return [...lines].reduce(
    (bytes, [, name, kB]) => bytes + (names.includes(name!) ? Number(kB) * 1024 : 0),
    0,
  );
}

function tableRow(figure: MemoryFigure): Record<string, string | number> {
  const { oneProcessPer, residency, rowsPerExpert, processes } = figure;
  const cell = (key: Exclude<keyof ProcessFigure, 'experts'>) => {
    const values = processes.map((figure) => figure[key]).sort((a, b) => a - b);
    const megabytes = (bytes: number) => (bytes / 1e6).toFixed(1);
    return `${megabytes(values[values.length >> 1]!)} (${megabytes(values.at(-1)!)})`;
  };
  return {
    'one per': oneProcessPer,
    residency,
    rows: rowsPerExpert,
    processes: processes.length,
    'experts each': processes[0]!.experts,
    rss: cell('rss'),
    private: cell('private'),
    shared: cell('shared'),
    anonymous: cell('anonymous'),
    weights: cell('weights'),
    'private beyond weights': cell('privateBeyondWeights'),
  };
}
