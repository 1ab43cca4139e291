import { combine } from '../../src/router/combine.js';
import { createRouter } from '../../src/router/create.js';
import { gatherRows } from '../../src/router/dispatch.js';
import { planDispatch } from '../../src/router/plan.js';
import { presetOptions } from '../../src/router/presets.js';
import type { DispatchPlan, Routing } from '../../src/router/routing.js';
import { readRows } from '../../src/router/rows.js';
import { tokenChoice } from '../../src/router/token-choice/rule.js';
import type { Matrix } from '../../src/tensor.js';
import type { SoftmaxTopK } from '../peers/softmax-top-k.js';
import { agree, type Case } from '../support/cases.js';

/** One stage of the token path beside a rival that does the same work, or the least that any way must do. */
export interface Stage {
  readonly name: string;
  run(): unknown;
  readonly rival?: { readonly name: string; run(): unknown };
}

const PRESETS = ['mixtral', 'olmoe', 'deepseek-v3'] as const;

/** Logits to experts and weights, checks included: those of mixtral and olmoe must be ONNX Runtime's. */
export async function choosing({ logits }: Case, k: number, peer: SoftmaxTopK): Promise<Stage[]> {
  const rival = { name: 'onnxruntime Softmax + TopK', run: () => peer.run(logits) };
  const known = await peer.run(logits);
  const stages: Stage[] = [];
  for (const preset of PRESETS) {
    const options = presetOptions(preset, { select: { k } });
    const grouped = preset === 'deepseek-v3';
    if (grouped && logits.cols % 8 !== 0) continue;
    const choose = () => tokenChoice(options, { logits }, readRows({ logits }, logits.cols, k)).selection;
    if (!grouped) agreeOnChoices(preset, choose(), known, k);
    stages.push({ name: `score + top-k, ${preset}`, run: choose, ...(!grouped && { rival }) });
  }
  const router = createRouter(presetOptions('mixtral', { select: { k } }), logits.cols);
  stages.push({ name: 'route, mixtral', run: () => router.route({ logits }), rival });
  return stages;
}

/**
 * The same experts; weights within 1e-6: the probabilities themselves, or (mixtral: softmax over the chosen) divided by
 * the sum of the chosen, which is the same number.
 */
function agreeOnChoices(
  preset: string,
  { expert, weight }: { expert: Int32Array; weight: Float32Array },
  known: Awaited<ReturnType<SoftmaxTopK['run']>>,
  k: number,
): void {
  const experts = Float32Array.from(known.experts, Number);
  agree(`${preset} and ONNX Runtime, experts`, Float32Array.from(expert), experts, 0);
  const sums = known.weights.map((_, a) => {
    const start = a - (a % k);
    return known.weights.subarray(start, start + k).reduce((sum, value) => sum + value, 0);
  });
  const expected = preset === 'mixtral' ? known.weights.map((value, a) => value / sums[a]!) : known.weights;
  agree(`${preset} and ONNX Runtime, weights`, weight, expected, 1e-6);
}

/** What follows the choice: the plan, the rows of all experts, the weighted sum. Outputs are the gathered rows themselves. */
export function moving({ logits, x }: Case, k: number): Stage[] {
  const routing = createRouter(presetOptions('mixtral', { select: { k } }), logits.cols).route({ logits });
  const plan = planDispatch(routing);
  const keys = sortKeys(routing);
  agree('plan and sort', Float32Array.from(plan.assignments), sorted(keys), 0);

  const rows = new Float32Array(plan.tokenIds.length * x.cols);
  const gather = () => gatherAll(plan, x, rows);
  gather();
  const copy = new Float32Array(rows.length);
  const memcpy = { name: 'memcpy of the rows', run: () => copy.set(rows) };
  const outputs = Array.from({ length: plan.experts }, (_, e) =>
    rows.slice(plan.offsets[e]! * x.cols, plan.offsets[e + 1]! * x.cols),
  );
  // Every weight of a token is on its own row, and weights sum to 1.
  agree('combine and x', combine(plan, outputs, x.cols).data, x.data, 1e-5);
  return [
    {
      name: 'plan',
      run: () => planDispatch(routing),
      rival: { name: 'sort', run: () => keys.slice().sort() },
    },
    { name: 'gather', run: gather, rival: memcpy },
    { name: 'combine', run: () => combine(plan, outputs, x.cols), rival: memcpy },
  ];
}

/** One number for each assignment that sorts by expert, then by place. */
function sortKeys({ expert }: Routing): Float64Array {
  return Float64Array.from(expert, (e, a) => e * expert.length + a);
}

function sorted(keys: Float64Array): Float32Array {
  return Float32Array.from(keys.slice().sort(), (key) => key % keys.length);
}

function gatherAll(plan: DispatchPlan, x: Matrix, into: Float32Array): void {
  for (let e = 0; e < plan.experts; e++) {
    if (plan.offsets[e + 1]! > plan.offsets[e]!) gatherRows(plan, e, x, into, plan.offsets[e]! * x.cols);
  }
}
