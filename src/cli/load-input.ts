import { checkLoads, refuseInput } from '../experts/plan-options.js';

const EXPECTED =
  '{"loads": [L][E]}, [L][E], [E], or what `turnout run --json` or `turnout route --json` prints';

/**
 * JSON value -> loads [L][E]: as they are, or the kept assignments of what `turnout run` (one text, or several, which are
 * summed) and `turnout route` (one layer) print. Throws TURNOUT_INPUT_INVALID.
 */
export function parseLoads(value: unknown): number[][] {
  if (Array.isArray(value)) {
    if (value.length > 0 && value.every(isRecord)) return sum(value.map(parseLoads));
    return checkLoads(value.some(Array.isArray) || value.length === 0 ? value : [value]);
  }
  if (!isRecord(value)) return refuseInput('input', EXPECTED, value);
  if (Array.isArray(value.loads) && !value.loads.some(isRecord)) return parseLoads(value.loads);
  if (Array.isArray(value.layers)) return checkLoads(value.layers.map((layer) => layer?.kept));
  if (Array.isArray(value.kept)) return checkLoads([value.kept]);
  return refuseInput('input', EXPECTED, value);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function sum(all: readonly number[][][]): number[][] {
  const [first] = all;
  all.forEach((loads, text) => {
    const size = [loads.length, loads[0].length];
    const expected = [first.length, first[0].length];
    if (size.join() !== expected.join())
      refuseInput(`text ${text}`, `[L, E] = [${expected}] as in text 0`, size);
  });
  return first.map((load, l) => load.map((_, e) => all.reduce((total, loads) => total + loads[l][e], 0)));
}
