import { InferenceSession, Tensor } from 'onnxruntime-node';
import type { Residency } from '../../src/experts/backend.js';
import { FAST_QMOE } from './fused-moe.js';

export interface SessionsSpec {
  readonly files: readonly string[];
  readonly residency: Residency;
  /** Whether all are experts, which can be called. */
  readonly experts: boolean;
}

export interface FusedSpec {
  readonly files: readonly string[];
  readonly residency: Residency;
  readonly threads: number;
  /** E of each. */
  readonly experts: number;
}

export interface ColdSessions {
  /** One row x [1, H] of one expert -> y [1, H]. */
  call?(expert: number, x: Float32Array): Promise<Float32Array>;
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

/** One session after the other, with nothing around them. */
export async function openSessions({ files, residency, experts }: SessionsSpec): Promise<ColdSessions> {
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

/** One session for each file, around the fused operator over its experts; calls are those of the first. */
export async function openFused({ files, residency, threads, experts }: FusedSpec): Promise<ColdSessions> {
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
