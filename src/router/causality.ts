import type { RouterOptions } from './options.js';

/**
 * Whether the routing of a token is independent of the tokens after it and of other sequences, and which part of the
 * rule makes it depend on them: algorithm, priority and scope together decide.
 */
export function causality(options: RouterOptions): { causal: boolean; notCausalBecause?: string } {
  if (options.algorithm === 'expert-choice' || options.algorithm === 'sinkhorn') {
    const why =
      options.scope === 'call'
        ? 'all sequences of a call compete for the experts, so isolation is broken'
        : 'all tokens of a sequence, later ones too, compete for the experts';
    return { causal: false, notCausalBecause: `algorithm "${options.algorithm}": ${why}` };
  }
  const admit = options.admit ?? 'none';
  if (admit === 'none') return { causal: true };
  if (admit.scope === 'call') {
    return {
      causal: false,
      notCausalBecause:
        'scope "call": all sequences of a call compete for its capacity, so isolation is broken; scope "request" is causal',
    };
  }
  if (admit.scope === 'sequence') {
    const priority = admit.priority ?? 'token-major';
    const order = priority === 'token-major' ? '' : `, and priority "${priority}" lets later tokens go first`;
    return {
      causal: false,
      notCausalBecause: `scope "sequence": the capacity comes from all rows of the sequence in the call${order}; scope "request" is causal`,
    };
  }
  return { causal: true };
}
