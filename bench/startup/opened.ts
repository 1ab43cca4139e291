import { closeSync, openSync, readSync } from 'node:fs';
import type { ExpertBackend } from '../../src/experts/backend.js';
import { wholeBatch } from '../../src/experts/batches.js';
import { MoeModel } from '../../src/model/moe-model.js';
import { openBackend } from '../../src/model/open.js';
import { openFused, openSessions } from '../peers/cold-sessions.js';
import type { Task } from './task.js';

/** What a task has opened. */
export interface Opened {
  /** One row x [1, H] of one expert -> y [1, H]. */
  call?(expert: number, x: Float32Array): Promise<Float32Array>;
  /** The first token of a model. */
  generate?(): Promise<string>;
  /** Processes that it has beside this one. */
  pids?(): number[];
  readonly readBytes?: number;
  close?(): Promise<unknown>;
}

type Of<K extends Task['kind']> = Extract<Task, { kind: K }>;

export function openTask(task: Task): Promise<Opened> {
  switch (task.kind) {
    case 'backend':
      return openExperts(task);
    case 'sessions':
      return openSessions(task);
    case 'fused':
      return openFused(task);
    case 'read':
      return readAll(task);
    case 'model':
      return openModel(task);
  }
}

async function openExperts({ files, options }: Of<'backend'>): Promise<Opened> {
  const backend = await openBackend(files, undefined, options);
  return {
    call: async (expert, x) => (await backend.run([wholeBatch(expert, x, backend.hidden)])).outputs[0]!,
    pids: () => pidsOf(backend),
    close: () => backend.close(),
  };
}

function pidsOf(backend: ExpertBackend): number[] {
  return backend.lanes().flatMap((lane) => lane.process?.pid ?? []);
}

const PIECE = 2 ** 22;

async function readAll({ files, mostBytes }: Of<'read'>): Promise<Opened> {
  const piece = Buffer.alloc(PIECE);
  let bytes = 0;
  for (const path of files) {
    const file = openSync(path, 'r');
    try {
      for (let n = 1; n > 0 && bytes < mostBytes; bytes += n) n = readSync(file, piece, 0, PIECE, null);
    } finally {
      closeSync(file);
    }
    if (bytes >= mostBytes) break;
  }
  return { readBytes: bytes };
}

const PROMPT = 'The ';

async function openModel({ folder, options }: Of<'model'>): Promise<Opened> {
  const model = await MoeModel.open(folder, options);
  return {
    generate: async () => {
      const settings = { maxTokens: 1, temperature: 0, seed: 0, ignoreEnd: true } as const;
      return (await model.generate(PROMPT, settings).result()).text;
    },
    pids: () => pidsOf(model.backend),
    close: () => model.close(),
  };
}
