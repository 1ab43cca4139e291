import { TurnoutError } from '../errors.js';
import type { SinkhornOptions } from './algorithms/sinkhorn.js';
import { choicesOf, type RouterOptions } from './options.js';
import type { TokenChoiceOptions } from './token-choice/options.js';

/** Checks what the schema cannot: options against E and against each other. Throws as createRouter says. */
export function checkCombination(options: RouterOptions, experts: number): void {
  if (!Number.isInteger(experts) || experts < 1) {
    throw new TurnoutError(
      'TURNOUT_EXPERTS_INVALID',
      `the number of experts E: expected a whole number from 1, got ${experts}`,
      { experts },
    );
  }
  if (options.algorithm === 'token-choice') checkTokenChoice(options, experts);
  else checkChoices(choicesOf(options, experts), experts);
  if (options.algorithm === 'sinkhorn') checkSinkhorn(options);
  if (options.algorithm !== 'expert-choice') checkAdmit(options);
}

function invalid(message: string, details: Record<string, unknown>): never {
  throw new TurnoutError('TURNOUT_OPTIONS_INVALID', message, details);
}

function checkChoices(k: number, experts: number): void {
  if (k > experts) {
    throw new TurnoutError('TURNOUT_CHOICES_INVALID', `k: expected 1..E = 1..${experts}, got ${k}`, {
      k,
      experts,
    });
  }
}

function checkTokenChoice(options: TokenChoiceOptions, experts: number): void {
  const { score, select, zeroComputation } = options;
  checkChoices(select.k, experts);
  if (select.groups) checkGroups(select, experts);
  if (score.bias && score.bias.length !== experts) {
    throw new TurnoutError(
      'TURNOUT_SHAPE_MISMATCH',
      `score.bias: expected [${experts}], got [${score.bias.length}]`,
      { expected: experts, got: score.bias.length },
    );
  }
  if (select.later && select.later.rule !== 'always' && select.k < 2) {
    invalid(`select.later "${select.later.rule}": expected k of 2 or more, got ${select.k}`, { k: select.k });
  }
  const { zero = 0, copy = 0, constant = 0 } = zeroComputation ?? {};
  const free = zero + copy + constant;
  if (free >= experts) {
    throw new TurnoutError(
      'TURNOUT_EXPERTS_INVALID',
      `zeroComputation: expected fewer than E = ${experts} experts, got ${free}`,
      { experts, zeroComputation: free },
    );
  }
}

function checkGroups({ groups, k }: TokenChoiceOptions['select'], experts: number): void {
  const { count, keep } = groups!;
  if (experts % count !== 0) {
    throw new TurnoutError(
      'TURNOUT_EXPERTS_INVALID',
      `select.groups.count: expected a divisor of E = ${experts}, got ${count}`,
      { experts, groups: count },
    );
  }
  if (keep > count) {
    invalid(`select.groups.keep: expected 1..${count} (the number of groups), got ${keep}`, { keep, count });
  }
  const open = (keep * experts) / count;
  if (k > open) {
    throw new TurnoutError(
      'TURNOUT_CHOICES_INVALID',
      `k: expected 1..${open} (${keep} of ${count} groups of ${experts / count} experts), got ${k}`,
      { k, open, keep, count },
    );
  }
}

function checkSinkhorn({ assign, k, iterations, tolerance }: SinkhornOptions): void {
  if (assign !== 'balanced') return;
  if (k !== 1) invalid(`sinkhorn, assign "balanced": expected k = 1, got ${k}`, { k });
  if (iterations === undefined && tolerance === undefined) return;
  invalid('sinkhorn, assign "balanced": expected no iterations and no tolerance, the assignment is exact', {
    iterations,
    tolerance,
  });
}

function checkAdmit({ admit }: Pick<TokenChoiceOptions, 'admit'>): void {
  if (!admit || admit === 'none') return;
  const { scope = 'request', priority = 'token-major' } = admit;
  if (scope === 'request' && priority !== 'token-major') {
    invalid(
      `admit.priority "${priority}" with scope "request": expected "token-major", because a running capacity cannot wait for later tokens; use scope "sequence" or "call"`,
      { scope, priority },
    );
  }
}
