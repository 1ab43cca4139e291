import Type, { type Static } from 'typebox';
import { TurnoutError } from '../errors.js';
import type { RemoteResult } from '../model/engine-messages.js';
import { layerOptions, type RouterChoice, routerOver } from '../model/layer-router.js';
import type { Manifest } from '../model/manifest.js';
import { waterfallOf } from '../model/waterfall.js';
import { dropRateOf } from '../router/load-sums.js';
import type { RouterOptions } from '../router/options.js';
import { presetNames } from '../router/presets.js';
import { DROP_REASONS } from '../router/routing.js';
import type { ServerContext } from './context.js';
import { promptTokens } from './openai/generations.js';
import { routingTable } from './routing-table.js';
import { blocksOf, withPlace } from './work.js';

/** Tokens that a trace may continue its text by. */
const MAX_CONTINUED = 512;

export const TraceRequest = Type.Object(
  {
    text: Type.Optional(Type.String({ description: 'The begin token is put before it.' })),
    tokens: Type.Optional(Type.Array(Type.Integer({ minimum: 0 }), { minItems: 1 })),
    max_tokens: Type.Optional(Type.Integer({ minimum: 0, maximum: MAX_CONTINUED })),
    temperature: Type.Optional(Type.Number({ minimum: 0, maximum: 2 })),
    seed: Type.Optional(Type.Integer({ minimum: -(2 ** 53) + 1, maximum: 2 ** 53 - 1 })),
    router: Type.Optional(
      Type.Object(
        {
          preset: Type.Optional(Type.String()),
          k: Type.Optional(Type.Integer()),
          capacity_factor: Type.Optional(Type.Union([Type.Number(), Type.Literal('none')])),
        },
        { additionalProperties: false },
      ),
    ),
  },
  { additionalProperties: false },
);
export type TraceBody = Static<typeof TraceRequest>;

/** Presets that fit the layers of a package. */
export function fittingPresets({ layers }: Manifest): string[] {
  return presetNames.filter((preset) => {
    try {
      return layers.every((layer) => fits(layer, { preset }));
    } catch {
      return false;
    }
  });
}

function fits(layer: Manifest['layers'][number], choice: RouterChoice): boolean {
  return routerOver(layerOptions(layer, choice), layer.experts.length).experts === layer.experts.length;
}

/** Routes one text, for its owner alone: POST /v1/routing/trace. */
export async function traceText(
  context: ServerContext,
  body: TraceBody,
  signal: AbortSignal,
): Promise<object> {
  const prompt = promptOf(body);
  const { max_tokens: maxTokens = 0, temperature = 0, seed = 0 } = body;
  const { manifest } = context.engine.info;
  const choice = choiceOf(body.router);
  const router = describeRouter(manifest, choice);
  const blocks = blocksOf(context, [promptTokens(prompt) + maxTokens]);
  const result = await withPlace(context, { sequences: 1, blocks, signal }, ({ timeoutMs }) =>
    context.engine.generate(prompt, {
      maxTokens,
      temperature,
      seed,
      record: true,
      timeline: true,
      scorePrompt: true,
      report: true,
      signal,
      timeoutMs,
      ...(choice && { router: choice }),
    }),
  );
  return { model: manifest.name, router, ...traceBody(result, manifest) };
}

function promptOf({ text, tokens }: TraceBody): string | number[] {
  if ((text === undefined) === (tokens === undefined)) {
    const got = text === undefined ? 'neither' : 'both';
    throw new TurnoutError('TURNOUT_REQUEST_INVALID', `expected either text or tokens, got ${got}`);
  }
  return text ?? tokens!;
}

function choiceOf(router: TraceBody['router']): RouterChoice | undefined {
  if (!router || Object.keys(router).length === 0) return undefined;
  const { preset, k, capacity_factor: capacityFactor } = router;
  return {
    ...(preset !== undefined && { preset }),
    ...(k !== undefined && { k }),
    ...(capacityFactor !== undefined && { capacityFactor }),
  };
}

/** The rule of the first layer in words. Throws what cannot be chosen. */
function describeRouter({ layers }: Manifest, choice: RouterChoice | undefined) {
  const [layer] = layers;
  const options = layerOptions(layer!, choice);
  const router = routerOver(options, layer!.experts.length);
  return {
    preset: choice?.preset ?? layer!.router.preset,
    algorithm: options.algorithm,
    k: router.choices,
    capacity_factor: factorOf(options),
    causal: router.causal,
  };
}

function factorOf(options: RouterOptions): number | 'none' {
  const admit = 'admit' in options ? (options.admit as { factor?: number } | 'none') : undefined;
  return typeof admit === 'object' && admit.factor !== undefined ? admit.factor : 'none';
}

function traceBody(
  { prompt, promptLogprobs = [], logprobs, latency, routing, reports = [], timeline }: RemoteResult,
  manifest: Manifest,
) {
  const tokens = [...promptLogprobs, ...logprobs];
  const { shape, ...table } = routingTable(routing);
  const nested = <T>(values: ArrayLike<number>, map: (value: number) => T) => nest(values, shape, map);
  const scored = tokens.filter(({ id, logprob }) => logprob !== null && id < 0x100);
  const nats = scored.reduce((sum, { logprob }) => sum - logprob!, 0);
  return {
    tokens: tokens.map(({ id, logprob }) => ({ id, text: byteText(id), logprob })),
    prompt_tokens: prompt.length,
    bits_per_byte: scored.length === 0 ? null : nats / Math.LN2 / scored.length,
    experts: nested(table.experts, (expert) => expert),
    weights: nested(table.weights, (weight) => weight),
    scores: nested(table.scores, (score) => score),
    drops: nested(table.drops, (reason) => (reason === 0 ? null : DROP_REASONS[reason]!)),
    layers: reports.map((report, layer) => {
      const { load, kept, dropped, losses, imbalance } = report;
      const dropRate = dropRateOf(load, dropped);
      const name = manifest.layers[layer]!.name;
      return { layer, name, experts: load.length, load, kept, dropped, dropRate, losses, imbalance };
    }),
    waterfall: waterfallOf(timeline, latency.totalMs),
  };
}

/** A byte for people: ASCII as it is, others as `\xNN`; nothing for a token that stands for no text. */
function byteText(id: number): string {
  if (id < 0x80) return String.fromCharCode(id);
  return id < 0x100 ? `\\x${id.toString(16).padStart(2, '0')}` : '';
}

function nest<T>(
  values: ArrayLike<number>,
  [tokens, layers, k]: readonly [number, number, number],
  map: (value: number) => T,
): T[][][] {
  return Array.from({ length: tokens }, (_, t) =>
    Array.from({ length: layers }, (_, l) =>
      Array.from({ length: k }, (_, c) => map(values[(t * layers + l) * k + c]!)),
    ),
  );
}
