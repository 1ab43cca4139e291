import type { RouterOptions } from './options.js';
import type { Router } from './routing.js';

/** What the routing of a token depends on, beside the token itself and those before it. */
export type Causality = Pick<Router, 'causal' | 'isolated' | 'notCausalBecause'>;

/** Whether a rule looks at later tokens or at other sequences, and which part of it does: algorithm, priority and scope decide. */
export function causality(options: RouterOptions): Causality {
  if (options.algorithm === 'expert-choice' || options.algorithm === 'sinkhorn') {
    const why =
      options.scope === 'call'
        ? 'all sequences of a call compete for the experts, so isolation is broken'
        : 'all tokens of a sequence, later ones too, compete for the experts';
    return {
      causal: false,
      isolated: options.scope !== 'call',
      notCausalBecause: `algorithm "${options.algorithm}": ${why}`,
    };
  }
  const admit = options.admit ?? 'none';
  if (admit === 'none') return { causal: true, isolated: true };
  if (admit.scope === 'call') {
    return {
      causal: false,
      isolated: false,
      notCausalBecause:
        'scope "call": all sequences of a call compete for its capacity, so isolation is broken; scope "request" is causal',
    };
  }
  if (admit.scope === 'sequence') {
    const priority = admit.priority ?? 'token-major';
    const order = priority === 'token-major' ? '' : `, and priority "${priority}" lets later tokens go first`;
    return {
      causal: false,
      isolated: true,
      notCausalBecause: `scope "sequence": the capacity comes from all rows of the sequence in the call${order}; scope "request" is causal`,
    };
  }
  return { causal: true, isolated: true };
}
