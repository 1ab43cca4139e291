import type { Trace } from './api.js';

/**
 * [tokens][layers] whether two rules send a token to other experts. The order of choices and drops do not count, and a
 * rule with fewer choices is compared with as many first choices of the other: else every token would differ.
 */
export function differences(a: Trace, b: Trace): boolean[][] {
  const length = Math.min(a.tokens.length, b.tokens.length);
  return Array.from({ length }, (_, token) => a.layers.map((_, layer) => differs(a, b, token, layer)));
}

function differs(a: Trace, b: Trace, token: number, layer: number): boolean {
  const [first, second] = [chosen(a, token, layer), chosen(b, token, layer)];
  const common = Math.min(first.length, second.length);
  if (common === 0) return first.length !== second.length;
  const others = new Set(second.slice(0, common));
  return first.slice(0, common).some((expert) => !others.has(expert));
}

function chosen({ experts }: Trace, token: number, layer: number): number[] {
  return (experts[token]?.[layer] ?? []).filter((expert) => expert >= 0);
}
