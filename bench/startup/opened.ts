import { closeSync, openSync, readSync } from 'node:fs';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import type { ExpertBackend, Residency } from '../../src/experts/backend.js';
import { MoeModel } from '../../src/model/moe-model.js';
import { openBackend } from '../../src/model/open.js';
import { FAST_QMOE } from '../peers/fused-moe.js';
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
    call: async (expert, x) => {
      const gather = (into: Float32Array, offset: number) => into.set(x, offset);
      return (await backend.run([{ expert, rows: 1, gather }])).outputs[0]!;
    },
    pids: () => pidsOf(backend),
    close: () => backend.close(),
  };
}

function pidsOf(backend: ExpertBackend): number[] {
  return backend.lanes().flatMap((lane) => lane.process?.pid ?? []);
}

/** As the runtime opens them, so that what it adds is its own. */
function nativeOptions(residency: Residency, threads = 1): InferenceSession.SessionOptions {
  return {
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    executionMode: 'sequential',
    // What goes wrong is thrown.
    logSeverityLevel: 4,
    extra: {
      session: {
        intra_op: { allow_spinning: '0' },
        ...(residency === 'mapped' ? { disable_prepacking: '1' } : {}),
      },
    },
  };
}

async function openSessions({ files, residency, experts }: Of<'sessions'>): Promise<Opened> {
  const sessions: InferenceSession[] = [];
  for (const path of files) sessions.push(await InferenceSession.create(path, nativeOptions(residency)));
  if (!experts) return {};
  return {
    call: async (expert, x) => {
      const { y } = await sessions[expert]!.run({ x: new Tensor('float32', x, [1, x.length]) });
      return y!.data as Float32Array;
    },
  };
}

/** Logits that leave one expert: the others have a softmax of 0. */
const NEVER = -1e4;

async function openFused({ files, residency, threads, experts }: Of<'fused'>): Promise<Opened> {
  process.env[FAST_QMOE] = '1';
  const sessions: InferenceSession[] = [];
  for (const path of files)
    sessions.push(await InferenceSession.create(path, nativeOptions(residency, threads)));
  return {
    call: async (expert, x) => {
      const logits = new Float32Array(experts).fill(NEVER);
      logits[expert] = 0;
      const feeds = {
        x: new Tensor('float32', x, [1, x.length]),
        logits: new Tensor('float32', logits, [1, experts]),
      };
      return (await sessions[0]!.run(feeds)).y!.data as Float32Array;
    },
  };
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
