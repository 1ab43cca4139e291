import { type ExpertsSpec, expertBytes, LEAST_GROUP } from '../support/weights.js';

/** The sizes of one layer. */
export interface LayerShape
  extends Required<Omit<ExpertsSpec, 'seed' | 'group'>>,
    Pick<ExpertsSpec, 'group'> {
  /** Of a known model, or of a package and its layer. */
  readonly name?: string;
  /** K */
  readonly k: number;
}

type ModelShape = Omit<LayerShape, 'name' | 'dtype' | 'group'>;

/**
 * One routed layer of known models, by the configuration files that came with their weights. Shared experts, biases and
 * variants of swiglu are left out: all are computed as silu(x W1) * x W3, or relu, without bias.
 */
export const MODELS = {
  /** mistralai/Mixtral-8x7B-v0.1: num_local_experts, num_experts_per_tok, hidden_size, intermediate_size. */
  'mixtral-8x7b': { experts: 8, k: 2, hidden: 4096, inner: 14336, activation: 'swiglu' },
  /** allenai/OLMoE-1B-7B-0924. */
  'olmoe-1b-7b': { experts: 64, k: 8, hidden: 2048, inner: 1024, activation: 'swiglu' },
  /** Qwen/Qwen3-30B-A3B: moe_intermediate_size. */
  'qwen3-30b-a3b': { experts: 128, k: 8, hidden: 2048, inner: 768, activation: 'swiglu' },
  /** deepseek-ai/DeepSeek-V3: n_routed_experts, moe_intermediate_size; its one shared expert is left out. */
  'deepseek-v3': { experts: 256, k: 8, hidden: 7168, inner: 2048, activation: 'swiglu' },
  /** openai/gpt-oss-20b: its swiglu has a limit and another slope, which cost next to nothing. */
  'gpt-oss-20b': { experts: 32, k: 4, hidden: 2880, inner: 2880, activation: 'swiglu' },
  /** google/switch-base-128: num_experts, d_model, d_ff. */
  'switch-base-128': { experts: 128, k: 1, hidden: 768, inner: 3072, activation: 'relu' },
} as const satisfies Record<string, ModelShape>;
export type ModelName = keyof typeof MODELS;
export const MODEL_NAMES = Object.keys(MODELS) as ModelName[];

/** What is measured where no shape is named. */
export const DEFAULT_SHAPE: LayerShape = {
  experts: 16,
  k: 2,
  hidden: 1024,
  inner: 2048,
  activation: 'relu',
  dtype: 'float32',
};

const plain = { activation: 'relu', dtype: 'float32' } as const;
const gated = { activation: 'swiglu', dtype: 'float32' } as const;
const packed = { activation: 'swiglu', dtype: 'int4', group: 128 } as const;

/** E of 8 and 64, k of 2 and 8, H of 1024 and 2048, F of 768 and 2048, both kinds of weights, int4 in both usual groups. */
export const GRID: readonly LayerShape[] = [
  { experts: 8, k: 2, hidden: 1024, inner: 2048, ...plain },
  { experts: 8, k: 2, hidden: 2048, inner: 768, ...gated },
  { experts: 64, k: 2, hidden: 1024, inner: 2048, ...plain },
  { experts: 64, k: 8, hidden: 2048, inner: 768, ...gated },
  { experts: 8, k: 2, hidden: 2048, inner: 2048, ...packed },
  { experts: 64, k: 2, hidden: 1024, inner: 2048, ...packed },
  { experts: 64, k: 8, hidden: 1024, inner: 768, ...packed, group: 32 },
  { experts: 64, k: 8, hidden: 2048, inner: 768, ...packed },
];

export function modelShape(name: ModelName, dtype: LayerShape['dtype']): LayerShape {
  return { ...MODELS[name], name, dtype, ...groupOf({ ...MODELS[name], dtype }) };
}

/** int4 values in groups of 128 where both sizes are multiples of it, as GPTQ and AWQ weights mostly are; of 32 else. */
export function groupOf({
  hidden,
  inner,
  dtype,
}: Pick<LayerShape, 'hidden' | 'inner' | 'dtype'>): Pick<LayerShape, 'group'> {
  if (dtype !== 'int4') return {};
  return { group: hidden % 128 === 0 && inner % 128 === 0 ? 128 : LEAST_GROUP };
}

/** Bytes of the weights of all experts. */
export function shapeBytes(shape: LayerShape): number {
  return shape.experts * expertBytes(shape);
}

/** Operations of one row in one expert: a multiplication and an addition for each weight. */
export function rowFlops({ hidden, inner, activation }: ExpertsSpec): number {
  return 2 * (activation === 'swiglu' ? 3 : 2) * hidden * inner;
}

export function shapeText({ name, experts, k, hidden, inner, activation, ...weights }: LayerShape): string {
  const sizes = `${experts} experts, k ${k}, ${hidden} x ${inner}, ${weightsText(weights)} ${activation}`;
  return name === undefined ? sizes : `${name}: ${sizes}`;
}

export function weightsText({ dtype, group }: { readonly dtype: string; readonly group?: number }): string {
  return group === undefined ? dtype : `${dtype} in groups of ${group}`;
}
