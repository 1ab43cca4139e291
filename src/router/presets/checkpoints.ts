import type { RouterOptions } from '../options.js';

/** Rules that reproduce released checkpoints: all dropless; k and scale as in the configuration of the largest one named. */
export const CHECKPOINT_PRESETS = {
  /**
   * Mixtral, Jiang et al. 2024, section 2.1: top-2 of the logits, softmax AFTER top-k over the chosen (equal to
   * softmax before and dividing by the sum). Checkpoints: mistralai/Mixtral-8x7B, 8x22B.
   */
  mixtral: {
    algorithm: 'token-choice',
    score: { function: 'softmax' },
    select: { k: 2 },
    weigh: { by: 'softmax' },
  },

  /**
   * OLMoE, Muennighoff et al. 2024, section 2, eq. 1: softmax BEFORE top-8, weights not renormalised
   * (norm_topk_prob = false). Checkpoints: allenai/OLMoE-1B-7B.
   */
  olmoe: {
    algorithm: 'token-choice',
    score: { function: 'softmax' },
    select: { k: 8 },
    weigh: { by: 'score' },
  },

  /**
   * Qwen2 technical report 2024, section 2.2.2, eq. 1-2: softmax BEFORE top-k, weights not renormalised
   * (norm_topk_prob = false). Checkpoints: Qwen1.5-MoE-A2.7B (k = 4); Qwen2-57B-A14B takes k = 8.
   */
  'qwen2-moe': {
    algorithm: 'token-choice',
    score: { function: 'softmax' },
    select: { k: 4 },
    weigh: { by: 'score' },
  },

  /**
   * Qwen3 technical report 2025, section 2: softmax BEFORE top-8, weights divided by the sum of the chosen
   * (norm_topk_prob = true). Checkpoints: Qwen3-30B-A3B, Qwen3-235B-A22B.
   */
  'qwen3-moe': {
    algorithm: 'token-choice',
    score: { function: 'softmax' },
    select: { k: 8 },
    weigh: { by: 'normalised' },
  },

  /**
   * DeepSeek-V2, 2024, eq. 20-22 and section 2.2.2 (device-limited): softmax BEFORE top-6 within the 3 best of 8 groups
   * by their largest score; weights not renormalised, times 16. Checkpoints: DeepSeek-V2, V2-Chat.
   */
  'deepseek-v2': {
    algorithm: 'token-choice',
    score: { function: 'softmax' },
    select: { k: 6, groups: { count: 8, keep: 3, score: 'max' } },
    weigh: { by: 'score', scale: 16 },
  },

  /**
   * DeepSeek-V2-Lite, 2024, appendix B: softmax BEFORE top-6 without groups; weights not renormalised, not scaled.
   * Checkpoints: DeepSeek-V2-Lite, DeepSeek-Coder-V2-Lite.
   */
  'deepseek-v2-lite': {
    algorithm: 'token-choice',
    score: { function: 'softmax' },
    select: { k: 6 },
    weigh: { by: 'score' },
  },

  /**
   * DeepSeek-V3, 2024, eq. 12-16: sigmoid BEFORE top-8 within the 4 best of 8 groups by the sum of their two best;
   * score.bias of the checkpoint chooses, never weighs; weights divided by the sum of the chosen, times 2.5.
   * Checkpoints: DeepSeek-V3, R1, V3.1.
   */
  'deepseek-v3': {
    algorithm: 'token-choice',
    score: { function: 'sigmoid' },
    select: { k: 8, groups: { count: 8, keep: 4, score: 'top2-sum' } },
    weigh: { by: 'normalised', scale: 2.5 },
  },

  /**
   * DeepSeek-V4, 2026, its layers with a learned gate: sqrt(softplus) BEFORE top-6 without groups; score.bias chooses,
   * never weighs; weights divided by the sum of the chosen, times 1.5. Checkpoints: DeepSeek-V4-Flash. Its first
   * layers are hash-routed.
   */
  'deepseek-v4': {
    algorithm: 'token-choice',
    score: { function: 'sqrt-softplus' },
    select: { k: 6 },
    weigh: { by: 'normalised', scale: 1.5 },
  },

  /**
   * Kimi K2, 2025, section 2.3 (the DeepSeek-V3 rule with one group): sigmoid BEFORE top-8, score.bias chooses;
   * weights divided by the sum of the chosen, times 2.827. Checkpoints: moonshotai/Kimi-K2.
   */
  'kimi-k2': {
    algorithm: 'token-choice',
    score: { function: 'sigmoid' },
    select: { k: 8 },
    weigh: { by: 'normalised', scale: 2.827 },
  },

  /**
   * gpt-oss model card, 2025, section 2.2: top-4 of the logits, softmax AFTER top-k over the chosen.
   * Checkpoints: openai/gpt-oss-20b, gpt-oss-120b.
   */
  'gpt-oss': {
    algorithm: 'token-choice',
    score: { function: 'softmax' },
    select: { k: 4 },
    weigh: { by: 'softmax' },
  },

  /**
   * Llama 4, Meta 2025 (llama-models, llama4/moe.py): top-1 of the logits, sigmoid of the chosen, never renormalised,
   * and it multiplies the INPUT of the expert. Checkpoints: Llama-4-Scout, Llama-4-Maverick.
   */
  'llama-4': {
    algorithm: 'token-choice',
    score: { function: 'sigmoid' },
    select: { k: 1 },
    weigh: { by: 'score', on: 'input' },
  },

  /**
   * NLLB-200, Costa-jussà et al. 2022, section 6.2: softmax BEFORE top-2, weights divided by the sum of the kept, AFTER
   * drops (normalize_router_prob_before_dropping = false). Its capacity at evaluation is all tokens, so dropless.
   * Checkpoints: facebook/nllb-moe-54b.
   */
  nllb: {
    algorithm: 'token-choice',
    score: { function: 'softmax' },
    select: { k: 2, later: { rule: 'always' } },
    weigh: { by: 'score' },
    renormalise: 'after-drop',
  },

  /**
   * Phi-3.5-MoE (Abdin et al. 2024, Phi-3 technical report, section on Phi-3.5-MoE) with SparseMixer (Liu et al. 2023,
   * arXiv 2310.00811; GRIN-MoE, Liu et al. 2024): the best expert, then the best of the others, each weighed by a softmax
   * AFTER its choice over its near rivals alone (2 * jitter = 0.02); the two weights are not renormalised, dropless.
   * Checkpoints: microsoft/Phi-3.5-MoE-instruct, GRIN-MoE.
   */
  'phi-moe': {
    algorithm: 'sparse-mixer',
    k: 2,
    jitter: 0.01,
  },

  /**
   * Granite 3.0 language models, IBM 2024, section 2 (dropless, after Gale et al. 2022): top-8 of the logits, softmax
   * AFTER top-k over the chosen. Checkpoints: ibm-granite/granite-3.0-1b-a400m, 3b-a800m.
   */
  'granite-moe': {
    algorithm: 'token-choice',
    score: { function: 'softmax' },
    select: { k: 8 },
    weigh: { by: 'softmax' },
  },

  /**
   * ERNIE 4.5 technical report, Baidu 2025, section 2: softmax BEFORE top-6, score.bias of the checkpoint chooses, never
   * weighs; weights divided by the sum of the chosen. Checkpoints: baidu/ERNIE-4.5-21B-A3B; 300B-A47B takes k = 8.
   */
  'ernie-4.5': {
    algorithm: 'token-choice',
    score: { function: 'softmax' },
    select: { k: 6 },
    weigh: { by: 'normalised' },
  },

  /**
   * LongCat-Flash technical report, Meituan 2025, eq. 1: softmax over 512 experts and 256 zero-computation ones that
   * give their input BEFORE top-12, score.bias chooses; weights not renormalised, times 6.
   * Checkpoints: meituan-longcat/LongCat-Flash-Chat.
   */
  'longcat-flash': {
    algorithm: 'token-choice',
    score: { function: 'softmax' },
    select: { k: 12 },
    weigh: { by: 'score', scale: 6 },
    zeroComputation: { copy: 256 },
  },
} as const satisfies Record<string, RouterOptions>;
