import type { GenerateResult } from '../../model/generate.js';
import { reportRouting } from '../../router/report.js';
import { DROP_REASONS, type Routing } from '../../router/routing.js';
import { drawHeatMap } from './heat-map.js';
import { drawStages } from './stages.js';
import type { Style } from './style.js';
import { drawTokens, drawTokenTable } from './tokens.js';

/** What is drawn of a generation. */
type Drawn = Pick<GenerateResult, 'prompt' | 'text' | 'tokens' | 'reason' | 'times' | 'routing'>;

/** The routing of a generation for a terminal: each token's experts, the layer x expert heat map, and the time of each stage. */
export function drawGeneration(
  result: Drawn,
  names: readonly string[],
  { style, table }: { style: Style; table: boolean },
): string {
  const passed = [...result.prompt, ...result.tokens].slice(0, result.routing[0]?.tokens ?? 0);
  const maps = {
    title: 'layer',
    rows: result.routing.map((routing, l) => ({ name: names[l]!, ...row(routing) })),
  };
  return [
    style.dim('first expert of each byte, layer by layer (- all choices dropped)'),
    drawTokens(passed, result.routing, style),
    '',
    style.dim('share of the kept assignments, in %, by layer and expert'),
    drawHeatMap(maps, style),
    '',
    style.dim(drawStages({ ...result.times })),
    ...(table ? ['', drawTokenTable(passed, result.routing)] : []),
  ].join('\n');
}

/** Shares of the kept assignments by expert, and in words what was dropped and how even the load is. */
function row(routing: Routing): { shares: number[]; note: string } {
  const { kept, dropped, imbalance, losses } = reportRouting(routing);
  const all = kept.reduce((sum, count) => sum + count, 0);
  const drops = Object.entries(dropped).filter(([, count]) => count > 0);
  const words = drops.map(([reason, count]) => `${count} (${reason})`).join(', ') || 'none';
  const balance = losses.switch === null ? '' : `, balance loss ${losses.switch.toFixed(2)}`;
  return {
    shares: kept.map((count) => (all === 0 ? 0 : count / all)),
    note: `dropped ${words}, MaxVio ${imbalance.maxVio.toFixed(2)}${balance}`,
  };
}

/** A generation as plain data, for programs. */
export function generationJson(prompt: string, result: Drawn, names: readonly string[]) {
  const { text, tokens, reason, times, routing } = result;
  return {
    prompt,
    text,
    promptTokens: result.prompt,
    tokens,
    reason,
    times,
    layers: routing.map((layer, l) => ({ name: names[l]!, ...perToken(layer), ...reportRouting(layer) })),
  };
}

/** [T][choices] experts, scores, weights, and false or the reason of a drop. */
function perToken(routing: Routing) {
  const empty = <T>(): T[][] => Array.from({ length: routing.tokens }, () => []);
  const tokens = {
    experts: empty<number>(),
    scores: empty<number>(),
    weights: empty<number>(),
    drops: empty<string | false>(),
  };
  routing.token.forEach((token, a) => {
    tokens.experts[token]!.push(routing.expert[a]!);
    tokens.scores[token]!.push(routing.score[a]!);
    tokens.weights[token]!.push(routing.weight[a]!);
    tokens.drops[token]!.push(routing.reason[a] === 0 ? false : DROP_REASONS[routing.reason[a]!]!);
  });
  return tokens;
}
