/** Made-up logits. */
export const SHAPES = ['uniform', 'zipf', 'drifting', 'adversarial'] as const;
export type Shape = (typeof SHAPES)[number];

/** Experts of two matrices (relu, gelu), or of three (SwiGLU, GEGLU). */
export const ACTIVATIONS = ['plain', 'gated'] as const;
export type Activation = (typeof ACTIVATIONS)[number];
