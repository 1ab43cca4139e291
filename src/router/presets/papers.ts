import type { RouterOptions } from '../options.js';

/** Rules as papers and their training code define them; several have a capacity. */
export const PAPER_PRESETS = {
  /**
   * Shazeer et al. 2017, "Outrageously Large Neural Networks", eq. 3-5: noise on the logits, top-k, softmax AFTER
   * top-k over the chosen; k = 4 as in their flat layers. Dropless, nothing to renormalise.
   */
  'shazeer-noisy': {
    algorithm: 'token-choice',
    score: { function: 'softmax', noise: { kind: 'learned' } },
    select: { k: 4 },
    weigh: { by: 'softmax' },
  },

  /**
   * GShard, Lepikhin et al. 2020, Algorithm 1: softmax BEFORE top-2, weights g1 and g2 divided by their sum BEFORE
   * drops, second expert kept with probability 2 * g2, all first choices before all second ones. Capacity 2N/(G*E) per
   * local group (section 2.2), here a sequence, and at least 1.
   */
  gshard: {
    algorithm: 'token-choice',
    score: { function: 'softmax' },
    select: { k: 2, later: { rule: 'random' } },
    weigh: { by: 'score' },
    admit: {
      factor: 1,
      formula: 'gshard',
      minimum: 1,
      priority: 'k-major',
      overflow: 'drop',
      scope: 'sequence',
    },
    renormalise: 'before-drop',
  },

  /**
   * Switch Transformer, Fedus et al. 2021, eq. 1-3: softmax BEFORE top-1, weight = its probability, never
   * renormalised; capacity floor(T/E * 1.25) by position, overflow drops. Checkpoints: google/switch-base-*. Differs:
   * a sequence competes with itself, not with a batch shard, and the capacity is at least 1.
   */
  switch: {
    algorithm: 'token-choice',
    score: { function: 'softmax' },
    select: { k: 1 },
    weigh: { by: 'score' },
    admit: {
      factor: 1.25,
      formula: 'switch',
      minimum: 1,
      priority: 'token-major',
      overflow: 'drop',
      scope: 'sequence',
    },
    renormalise: 'never',
  },

  /**
   * Switch Transformer, appendix B, "No-Token-Left-Behind": as switch, but a token whose expert is full goes to its
   * next-best one. Differs: they move overflow in rounds after all first choices, here each token is moved in its turn.
   */
  'switch-ntlb': {
    algorithm: 'token-choice',
    score: { function: 'softmax' },
    select: { k: 1 },
    weigh: { by: 'score' },
    admit: {
      factor: 1.25,
      formula: 'switch',
      minimum: 1,
      priority: 'token-major',
      overflow: 'next-best',
      scope: 'sequence',
    },
    renormalise: 'never',
  },

  /**
   * V-MoE, Riquelme et al. 2021, eq. 2 and section 2: softmax of noisy logits (standard deviation 1/E) BEFORE top-2,
   * weights not renormalised; all first choices before all second ones, capacity factor 1.05 (their released
   * configurations). Noise only where it or a seed is given: they add it in training.
   */
  'v-moe': {
    algorithm: 'token-choice',
    score: { function: 'softmax', noise: { kind: 'over-experts', scale: 1 } },
    select: { k: 2 },
    weigh: { by: 'score' },
    admit: { factor: 1.05, formula: 'v-moe', priority: 'k-major', overflow: 'drop', scope: 'sequence' },
    renormalise: 'never',
  },

  /** V-MoE with Batch Prioritised Routing, section 4.1: as v-moe, but tokens with the largest score go first. */
  'v-moe-bpr': {
    algorithm: 'token-choice',
    score: { function: 'softmax', noise: { kind: 'over-experts', scale: 1 } },
    select: { k: 2 },
    weigh: { by: 'score' },
    admit: {
      factor: 1.05,
      formula: 'v-moe',
      priority: 'batch-prioritised',
      overflow: 'drop',
      scope: 'sequence',
    },
    renormalise: 'never',
  },

  /**
   * ST-MoE, Zoph et al. 2022, appendix on top-n routing, and Mesh TensorFlow's top-2 gating (policy "random"): softmax
   * BEFORE top-2, weights divided by their sum BEFORE drops, second expert kept with probability min(1, g2 / 0.2);
   * capacity factor 1.25, at least 4, all first choices before all second ones.
   */
  'st-moe': {
    algorithm: 'token-choice',
    score: { function: 'softmax' },
    select: { k: 2, later: { rule: 'threshold', threshold: 0.2 } },
    weigh: { by: 'score' },
    admit: { factor: 1.25, formula: 'mesh', priority: 'k-major', overflow: 'drop', scope: 'sequence' },
    renormalise: 'before-drop',
  },

  /**
   * Artetxe et al. 2021, "Efficient Large Scale Language Modeling with Mixtures of Experts", on fairseq's default
   * second-expert policy "sampling": softmax BEFORE top-1, the second expert sampled from the rest, weights divided
   * by their sum AFTER drops. Capacity 2 * ceil(T/E) (fairseq top2gate), all first choices before all second ones.
   */
  'fairseq-moe': {
    algorithm: 'token-choice',
    score: { function: 'softmax' },
    select: { k: 2, later: { rule: 'sampled' } },
    weigh: { by: 'score' },
    admit: { factor: 1, formula: 'tutel', priority: 'k-major', overflow: 'drop', scope: 'sequence' },
    renormalise: 'after-drop',
  },

  /**
   * DeepSpeed-MoE, Rajbhandari et al. 2022, and sharded_moe.py top1gating: softmax BEFORE top-1, weight = its
   * probability, never renormalised; capacity ceil(T/E), at least 4, kept by random token selection over the batch.
   */
  'deepspeed-moe': {
    algorithm: 'token-choice',
    score: { function: 'softmax' },
    select: { k: 1 },
    weigh: { by: 'score' },
    admit: { factor: 1, formula: 'deepspeed', priority: 'random', overflow: 'drop', scope: 'call' },
    renormalise: 'never',
  },

  /**
   * Megatron-Core MoE (NVIDIA 2024), topk_softmax_with_capacity in moe_utils.py with its default drop policy "probs": top-2 of the
   * logits, softmax AFTER top-k over the chosen, never renormalised; each expert keeps the ceil(kT/E) largest
   * probabilities of the batch.
   */
  'megatron-moe': {
    algorithm: 'token-choice',
    score: { function: 'softmax' },
    select: { k: 2 },
    weigh: { by: 'softmax' },
    admit: { factor: 1, formula: 'megatron', priority: 'probability', overflow: 'drop', scope: 'call' },
    renormalise: 'never',
  },

  /**
   * ONNX Runtime 1.30 (2026), operator com.microsoft.MoE on CPU with its default attributes: softmax BEFORE top-1, weights
   * not renormalised (normalize_routing_weights = 0); of equal experts the HIGHER index wins.
   */
  'onnxruntime-moe': {
    algorithm: 'token-choice',
    score: { function: 'softmax' },
    select: { k: 1, ties: 'higher' },
    weigh: { by: 'score' },
    renormalise: 'never',
  },

  /**
   * MoE++, Jin et al. 2024, section 3: zero, copy and constant experts as the last columns; softmax BEFORE top-2,
   * weights not renormalised. Its gating residual belongs to the gate, and its smaller capacity for experts without
   * computation to training: dropless here.
   */
  'moe++': {
    algorithm: 'token-choice',
    score: { function: 'softmax' },
    select: { k: 2 },
    weigh: { by: 'score' },
    zeroComputation: { zero: 1, copy: 1, constant: 2 },
    renormalise: 'never',
  },

  /**
   * Expert choice, Zhou et al. 2022, section 3.2, eq. 1-2: softmax over the experts of each token BEFORE each expert takes
   * its k = n * c / e best tokens, capacity factor c = 2; weights never renormalised, and nothing is dropped. Not causal:
   * all tokens of a sequence compete.
   */
  'expert-choice': {
    algorithm: 'expert-choice',
    score: 'softmax',
    factor: 2,
    scope: 'sequence',
  },

  /**
   * BASE layers, Lewis et al. 2021, section 3, eq. 1-4: the assignment of one expert to each token with the largest sum of
   * logits and equal loads; sigmoid of the token's own logit as weight, never renormalised, nothing dropped. At
   * inference they take the best expert instead. Differs: loads differ by one where E does not divide T.
   */
  base: {
    algorithm: 'sinkhorn',
    k: 1,
    assign: 'balanced',
    score: 'sigmoid',
    scope: 'sequence',
  },

  /**
   * S-BASE, Clark et al. 2022, "Unified Scaling Laws for Routed Language Models", as Megatron-Core trains it (moe_utils.py sinkhorn,
   * tolerance 1e-4; router.py sinkhorn_load_balancing): the logits of the batch balanced by Sinkhorn, then top-1; sigmoid of
   * the token's own logit as weight AFTER top-1, never renormalised, dropless. At inference they take the best expert.
   */
  sinkhorn: {
    algorithm: 'sinkhorn',
    k: 1,
    assign: 'top-k',
    score: 'sigmoid',
    tolerance: 1e-4,
    scope: 'call',
  },

  /**
   * Hash layers, Roller et al. 2021, section 3.1, random hash: the token id alone chooses its expert, weight 1; no softmax,
   * nothing to renormalise, dropless.
   */
  hash: {
    algorithm: 'hash',
    k: 1,
  },
} as const satisfies Record<string, RouterOptions>;
