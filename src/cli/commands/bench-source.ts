import type { AxisFlags } from '../../../bench/routing/axes.js';
import { costOfSize, type LayerCost } from '../../../bench/routing/cost.js';
import type { Activation, Shape } from '../../../bench/routing/names.js';
import { openLogits } from '../../../bench/routing/plain-logits.js';
import { openRecording } from '../../../bench/routing/recording.js';
import type { Source } from '../../../bench/routing/source.js';
import { openSynthetic } from '../../../bench/routing/synthetic.js';
import { openText } from '../../../bench/routing/text-source.js';
import { TurnoutError } from '../../errors.js';
import type { BackendName } from '../../model/open.js';
import { backendOptions } from '../backend-options.js';
import { BUNDLED, progressLine } from '../packages.js';
import { parseInput } from '../route-input.js';
import { parseJson, readSource } from '../support.js';

export interface BenchRoutingFlags extends AxisFlags {
  readonly package?: string;
  readonly text?: string;
  readonly recording?: string;
  readonly synthetic?: Shape;
  readonly experts?: number;
  readonly tokens?: number;
  readonly window?: number;
  readonly perCall?: number;
  readonly hidden?: number;
  readonly inner?: number;
  readonly activation: Activation;
  readonly k?: number;
  readonly quick?: true;
  readonly limit?: number;
  readonly seed?: number;
  readonly repeats?: number;
  readonly backend: BackendName;
  readonly lanes?: number;
  readonly sort?: string;
  readonly rows: number;
  readonly json?: string;
  readonly html?: string;
  readonly compare?: string;
  readonly resume?: string;
}

const PER_CALL = 2;

/** Tokens of made-up logits at most: a matrix of 2^28 numbers is 1 GiB. */
const MOST_LOGITS = 2 ** 28;

const LEAST: readonly [keyof BenchRoutingFlags, string, number][] = [
  ['experts', '--experts', 1],
  ['tokens', '--tokens', 1],
  ['window', '--window', 1],
  ['perCall', '--per-call', 1],
  ['hidden', '--hidden', 1],
  ['inner', '--inner', 1],
  ['limit', '--limit', 1],
  ['repeats', '--repeats', 1],
  ['rows', '--rows', 0],
  ['seed', '--seed', 0],
];

/** Throws TURNOUT_OPTIONS_INVALID or TURNOUT_CHOICES_INVALID for flags that are no whole numbers, and for such as contradict each other. */
export function checkFlags(flags: BenchRoutingFlags): void {
  for (const [key, flag, least] of LEAST) checkWhole(flag, flags[key] as number | undefined, least);
  const { k, recording, synthetic, text, hidden, inner } = flags;
  if (k !== undefined && !(Number.isSafeInteger(k) && k >= 1))
    throw new TurnoutError('TURNOUT_CHOICES_INVALID', `--k: expected a whole number from 1, got ${k}`, { k });
  const sources = Object.entries({ '--text': text, '--recording': recording, '--synthetic': synthetic });
  const given = sources.flatMap(([flag, value]) => (value === undefined ? [] : [flag]));
  if (given.length > 1) throw invalid(`${given.join(' and ')}: expected one of them`, { given });
  if (flags.package !== undefined && (recording ?? synthetic) !== undefined)
    throw invalid(`--package and ${given[0]}: logits alone need no package`, { given });
  if ((hidden === undefined) !== (inner === undefined))
    throw invalid('--hidden and --inner: expected both or none', { hidden, inner });
}

function checkWhole(flag: string, value: number | undefined, least: number): void {
  if (value === undefined || (Number.isSafeInteger(value) && value >= least)) return;
  throw invalid(`${flag}: expected a whole number from ${least}, got ${value}`, { got: value });
}

function invalid(message: string, details: Record<string, unknown>): TurnoutError {
  return new TurnoutError('TURNOUT_OPTIONS_INVALID', message, details);
}

/** What the flags say is to be routed. */
export async function openSource(flags: BenchRoutingFlags): Promise<Source> {
  const { recording, perCall = PER_CALL } = flags;
  if (recording !== undefined) {
    const value = parseJson(await readSource(recording), `--recording ${recording}`);
    const cost = costOfFlags(flags);
    if (!isRouteInput(value)) return openRecording({ value, perCall, cost });
    const { experts = 1, toRouterInput } = parseInput(value);
    return openLogits({ input: toRouterInput(experts, 1), perCall, cost });
  }
  return flags.synthetic === undefined ? openTexts(flags) : openShape(flags, flags.synthetic);
}

/** Recordings have their logits request by request. */
function isRouteInput(value: unknown): boolean {
  return typeof value === 'object' && value !== null && 'logits' in value;
}

function openShape(flags: BenchRoutingFlags, shape: Shape): Source {
  const { experts = 64, tokens = 2048, window = 256, perCall = PER_CALL, seed = 0 } = flags;
  if (experts * tokens > MOST_LOGITS)
    throw invalid(`--experts times --tokens: expected at most ${MOST_LOGITS}, got ${experts * tokens}`, {});
  return openSynthetic({ shape, experts, tokens, window, perCall, seed, cost: costOfFlags(flags) });
}

function costOfFlags({ hidden, inner, activation }: BenchRoutingFlags): LayerCost | undefined {
  if (hidden === undefined || inner === undefined) return undefined;
  return costOfSize({ hidden, inner, activation });
}

async function openTexts(flags: BenchRoutingFlags): Promise<Source> {
  const { backend, lanes, text, perCall = PER_CALL, tokens = 128, window = Math.min(tokens, 128) } = flags;
  const placed = await backendOptions({
    backend,
    residency: 'packed',
    ...(lanes !== undefined && { lanes }),
  });
  const progress = progressLine();
  try {
    return await openText({
      folder: flags.package ?? BUNDLED,
      text,
      tokens,
      window,
      perCall,
      model: {
        ...placed,
        onProgress: (done, total) => progress.update(`checking the package: ${done} of ${total} files`),
      },
    });
  } finally {
    progress.clear();
  }
}
