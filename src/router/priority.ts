import { rowKey, uniform } from './random.js';
import type { RouterInput, Selection } from './routing.js';
import type { Rows } from './rows.js';
import type { AdmitLimit } from './stage-options.js';

export type Priority = NonNullable<AdmitLimit['priority']>;

/** What the order may depend on; `expert` and `reason` are [T * K]. */
interface Call {
  readonly selection: Selection;
  readonly input: RouterInput;
  readonly rows: Rows;
  readonly seed: number;
  readonly expert: Int32Array;
  readonly reason: Uint8Array;
}

/** Assignments (as t * K + choice) of the rows start .. start + length that still stand, first admitted first. */
export function admissionOrder(
  priority: Priority,
  { start, length }: { readonly start: number; readonly length: number },
  call: Call,
): Int32Array {
  const K = call.selection.choices;
  const order = new Int32Array(length * K);
  let n = 0;
  for (let a = start * K; a < (start + length) * K; a++) {
    if (call.expert[a] >= 0 && call.reason[a] === 0) order[n++] = a;
  }
  const standing = order.subarray(0, n);
  if (priority === 'token-major') return standing;
  const byChoice = priority === 'k-major' || priority === 'batch-prioritised';
  const rankOf = priorityValue(priority, call);
  const values = new Float64Array(length * K);
  for (const a of standing) values[a - start * K] = rankOf(a);
  return standing.sort(
    (a, b) => (byChoice ? (a % K) - (b % K) : 0) || values[b - start * K] - values[a - start * K] || a - b,
  );
}

/** The number by which assignments are ranked; larger is admitted earlier, equal ones by token. */
function priorityValue(priority: Priority, call: Call): (a: number) => number {
  const { selection, input, rows, seed, expert } = call;
  const { choices: K, experts: E, scores } = selection;
  const tokenOf = (a: number) => Math.floor(a / K);
  switch (priority) {
    case 'probability': {
      const score = selection.score();
      return (a) => score[a];
    }
    case 'logit':
      return (a) => input.logits.data[tokenOf(a) * E + expert[a]];
    case 'batch-prioritised':
      return (a) => largest(scores.data.subarray(tokenOf(a) * E, (tokenOf(a) + 1) * E));
    case 'random':
      return (a) =>
        input.uniforms?.data[a] ??
        uniform(rowKey({ seed, ...rows.source(tokenOf(a)), use: 'priority' }), a % K);
    default:
      return () => 0;
  }
}

function largest(values: Float32Array): number {
  let max = -Infinity;
  for (const value of values) if (value > max) max = value;
  return max;
}
