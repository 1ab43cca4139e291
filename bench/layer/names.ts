/** Who runs the layer, turnout's own ways first. */
export const CONTENDERS = ['auto', 'inline', 'threads', 'processes', 'fused', 'dense', 'torch'] as const;
export type ContenderName = (typeof CONTENDERS)[number];

/** Where memory does not suffice for all, these go without, the first one first. */
export const LEAVE_OUT: readonly ContenderName[] = [
  'torch',
  'dense',
  'processes',
  'threads',
  'fused',
  'auto',
];

/** How tokens spread over experts: as random rows do, or with about half of all tokens at the first expert. */
export const LOADS = ['even', 'skewed'] as const;
export type Load = (typeof LOADS)[number];
