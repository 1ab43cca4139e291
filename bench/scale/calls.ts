import type { ExpertBackend, ExpertFile } from '../../src/experts/backend.js';
import { openInline } from '../../src/experts/inline.js';
import { openThreads } from '../../src/experts/threads.js';
import { MoeLayer, type StageTimes } from '../../src/moe-layer.js';
import { createRouter } from '../../src/router/create.js';
import { presetOptions } from '../../src/router/presets.js';
import { type Matrix, matrix } from '../../src/tensor.js';
import { agree } from '../support/cases.js';
import { type ExpertSet, normals, referenceExpert } from '../support/experts.js';
import type { ScaleBackend, ScaleSettings } from './settings.js';

/** One call in which every expert gets as many rows. */
export interface EvenCall {
  /** [T, H] */
  readonly x: Matrix;
  /** [T, E] token t wants the experts from t k on, modulo E. */
  readonly logits: Matrix;
}

export function evenCall(experts: number, { k, rows, hidden }: ScaleSettings): EvenCall {
  const tokens = Math.ceil((rows * experts) / k);
  const random = normals(experts);
  const x = matrix(Float32Array.from({ length: tokens * hidden }, random), tokens, hidden);
  const logits = matrix(Float32Array.from({ length: tokens * experts }, random), tokens, experts);
  // Above the largest of the others, one like the other: each weighs 1 / k.
  for (let t = 0; t < tokens; t++)
    for (let j = 0; j < k; j++) logits.data[t * experts + ((t * k + j) % experts)] = WANTED;
  return { x, logits };
}

const WANTED = 20;

/** One way to run the layer with so many experts. */
export interface ScaleContender {
  readonly backend: ScaleBackend;
  readonly experts: number;
  readonly tokens: number;
  run(): Promise<{ readonly y: Matrix; readonly times: StageTimes }>;
  close(): Promise<void>;
}

export async function openContender(
  backend: ScaleBackend,
  files: readonly ExpertFile[],
  { call, settings }: { readonly call: EvenCall; readonly settings: ScaleSettings },
): Promise<ScaleContender> {
  const { k, residency, lanes, replicas } = settings;
  const opened: ExpertBackend =
    backend === 'inline'
      ? await openInline(files, { residency })
      : await openThreads(files, { residency, lanes, replicas });
  const router = createRouter(presetOptions('mixtral', { select: { k } }), files.length);
  const layer = new MoeLayer({ name: backend, index: 0, router, backend: opened });
  return {
    backend,
    experts: files.length,
    tokens: call.x.rows,
    run: () => layer.forward(call.x, { logits: call.logits }),
    close: () => opened.close(),
  };
}

/** Of outputs of the order of 1, summed in float32. */
const TOLERANCE = 1e-4;

/** Throws where a contender's first and last token are not the mean of their experts, by plain loops. */
export async function checkOutputs(
  contender: ScaleContender,
  set: ExpertSet,
  { call, settings }: { readonly call: EvenCall; readonly settings: ScaleSettings },
): Promise<Matrix> {
  const { y } = await contender.run();
  const { k, hidden } = settings;
  for (const t of [0, y.rows - 1]) {
    const x = call.x.data.subarray(t * hidden, (t + 1) * hidden);
    const expected = new Float32Array(hidden);
    for (let j = 0; j < k; j++) {
      const out = referenceExpert(set, (t * k + j) % contender.experts, x);
      for (let h = 0; h < hidden; h++) expected[h]! += out[h]! / k;
    }
    const what = `${contender.backend}, ${contender.experts} experts, token ${t}`;
    agree(what, y.data.subarray(t * hidden, (t + 1) * hidden), expected, TOLERANCE);
  }
  return y;
}
