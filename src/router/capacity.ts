import type { AdmitLimit } from './stage-options.js';

type Formula = NonNullable<AdmitLimit['formula']>;

/** T tokens, E experts, k choices, factor f. */
interface Sizes {
  readonly tokens: number;
  readonly experts: number;
  readonly choices: number;
  readonly factor: number;
}

/** Python's round: halves go to the even neighbour. */
function roundHalfEven(x: number): number {
  const low = Math.floor(x);
  if (x - low !== 0.5) return Math.round(x);
  return low % 2 === 0 ? low : low + 1;
}

/** The arithmetic of each source, in its order of operations, so that rounding agrees in the last token too. */
const FORMULAS: Record<Exclude<Formula, 'fixed'>, (sizes: Sizes) => number> = {
  // Fedus et al. 2021, eq. 3, gives no rounding; truncated as the authors' Mesh code does, without its limits.
  switch: ({ tokens: T, experts: E, factor: f }) => Math.floor((T / E) * f),
  // Lepikhin et al. 2020, section 2.2: 2N / (G * E) for k = 2; truncated as Lingvo does.
  gshard: ({ tokens: T, experts: E, choices: k, factor: f }) => Math.floor((k * T * f) / E),
  // vmoe/moe.py compute_capacity, multiple_of = 4.
  'v-moe': ({ tokens: T, experts: E, choices: k, factor: f }) =>
    4 * Math.ceil(Math.ceil((k * T * f) / E) / 4),
  // flaxformer moe_layers.py: k does not enter.
  flaxformer: ({ tokens: T, experts: E, factor: f }) => roundHalfEven((f * T) / E),
  // mesh_tensorflow/transformer/moe.py, st-moe-pytorch: k does not enter.
  mesh: ({ tokens: T, experts: E, factor: f }) => Math.min(T, Math.floor((T * f) / E)),
  // DeepSpeed sharded_moe.py _capacity.
  deepspeed: ({ tokens: T, experts: E, choices: k, factor: f }) => Math.ceil((T / E) * f * k),
  // Tutel fast_dispatch.py extract_critical.
  tutel: ({ tokens: T, experts: E, choices: k, factor: f }) => k * Math.floor(f * Math.ceil(T / E)),
  // FastMoE gshard_gate.py.
  fastmoe: ({ tokens: T, experts: E, choices: k, factor: f }) => Math.floor((Math.ceil(f * T) * k) / E),
  // MegaBlocks moe.py expert_capacity; a result of 0 stays 0 here, where MegaBlocks turns dropless.
  megablocks: ({ tokens: T, experts: E, choices: k, factor: f }) => Math.floor((f * k * T) / E),
  // Megatron-Core moe_utils.py get_capacity.
  megatron: ({ tokens: T, experts: E, choices: k, factor: f }) => Math.ceil(((T * k) / E) * f),
};

/** Sources with a floor of their own: MIN_EXPERT_CAPACITY of flaxformer and Mesh, min_capacity of DeepSpeed. */
const MINIMA: Partial<Record<Formula, number>> = { flaxformer: 4, mesh: 4, deepspeed: 4 };

/** The most rows that an expert takes of `tokens` competing tokens: max(minimum, formula). */
export function capacityOf(limit: AdmitLimit, tokens: number, experts: number, choices: number): number {
  if ('capacity' in limit) return limit.capacity;
  const formula = limit.formula ?? 'megatron';
  const minimum = limit.minimum ?? MINIMA[formula] ?? 0;
  return Math.max(minimum, FORMULAS[formula]({ tokens, experts, choices, factor: limit.factor }));
}
