import { TurnoutError } from '../../src/errors.js';
import { assertGoodRows } from '../../src/router/bad-rows.js';
import { createRouter } from '../../src/router/create.js';
import { planDispatch } from '../../src/router/plan.js';
import type { RouterInput, Routing } from '../../src/router/routing.js';
import { type Matrix, matrix } from '../../src/tensor.js';
import type { LayerCost } from './cost.js';
import type { CallRun, LayerRun, Rule, Source } from './source.js';

/** One sequence of logits, as recorded or made up. */
export interface LogitsSequence {
  readonly tokens: number;
  /** [T] */
  readonly ids: Int32Array;
  /** [L] */
  readonly layers: readonly SequenceLayer[];
}

export interface SequenceLayer {
  /** [T, E] */
  readonly logits: Matrix;
  /** What was recorded of it, [T, K]: experts, -1 for none; weights; index in DROP_REASONS. */
  readonly given?: {
    readonly experts: Int32Array;
    readonly weights: Float32Array;
    readonly drops: Uint8Array;
  };
}

export interface LogitsSourceOptions extends Pick<Source, 'description' | 'layers' | 'causal' | 'baseline'> {
  readonly sequences: readonly LogitsSequence[];
  /** Without token ids there is nothing to hash. */
  readonly withoutIds?: true;
  readonly perCall: number;
  /** The same for all layers; unknown where left out. */
  readonly cost?: LayerCost | undefined;
}

/** Logits alone: no model computes, so quality is not known. */
export function logitsSource(options: LogitsSourceOptions): Source {
  const { sequences, perCall, cost, layers } = options;
  const calls = Array.from({ length: Math.ceil(sequences.length / perCall) }, (_, c) =>
    joinCall(sequences.slice(c * perCall, (c + 1) * perCall), c * perCall),
  );
  const { description, causal, baseline } = options;
  return {
    description,
    layers,
    hasModel: false,
    causal,
    baseline,
    costs: cost && layers.map(() => cost),
    longest: {
      sequence: Math.max(...sequences.map(({ tokens }) => tokens)),
      call: Math.max(...calls.map(({ tokens }) => tokens)),
    },
    calls: calls.length,
    routerOf(own, layer) {
      if (options.withoutIds && own.algorithm === 'hash')
        throw new TurnoutError('TURNOUT_INPUT_INVALID', 'hash routing needs token ids');
      return createRouter(own, layers[layer]!.experts);
    },
    run: async (call, rule) => routeCall(calls[call]!, rule),
    close: async () => {},
  };
}

interface LogitsCall {
  readonly tokens: number;
  readonly lengths: readonly number[];
  /** [L] */
  readonly layers: readonly { readonly input: RouterInput; readonly drops: Uint8Array | undefined }[];
}

/** Sequences -> one call of all their rows; `first` is the number of the first of them. */
function joinCall(sequences: readonly LogitsSequence[], first: number): LogitsCall {
  const lengths = sequences.map(({ tokens }) => tokens);
  const spans = lengths.map((length, i) => ({ length, request: first + i }));
  const tokens = lengths.reduce((sum, length) => sum + length, 0);
  const tokenIds = Int32Array.from(sequences.flatMap(({ ids }) => [...ids]));
  const layers = sequences[0]!.layers.map(({ logits: { cols } }, layer) => {
    const parts = sequences.map((sequence) => sequence.layers[layer]!);
    const recorded = parts.flatMap(({ given }) => (given ? [given] : []));
    const data = join(
      parts.map(({ logits }) => logits.data),
      Float32Array,
    );
    const given = recorded.length > 0 && {
      given: {
        experts: join(
          recorded.map(({ experts }) => experts),
          Int32Array,
        ),
        weights: join(
          recorded.map(({ weights }) => weights),
          Float32Array,
        ),
      },
    };
    const drops =
      recorded.length > 0
        ? join(
            recorded.map((own) => own.drops),
            Uint8Array,
          )
        : undefined;
    return {
      input: { logits: matrix(data, tokens, cols), sequences: spans, tokenIds, layer, ...given },
      drops,
    };
  });
  return { tokens, lengths, layers };
}

type Numbers = Float32Array | Int32Array | Uint8Array;

function join<T extends Numbers>(parts: readonly T[], Kind: new (length: number) => T): T {
  const all = new Kind(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** Throws TURNOUT_LOGITS_INVALID for rows that cannot be routed. */
function routeCall({ lengths, layers }: LogitsCall, { routers, options }: Rule): CallRun {
  const runs = layers.map(({ input, drops }, layer): LayerRun => {
    const from = performance.now();
    const routed = routers[layer]!.route(input);
    const chosen = performance.now();
    assertGoodRows(routed);
    const replayed = options[layer]!.algorithm === 'given' && drops;
    const routing = replayed ? dropAgain(routed, drops) : routed;
    const planning = performance.now();
    planDispatch(routing);
    const { logits, ...rest } = input;
    return { routing, input: rest, stages: { route: chosen - from, dispatch: performance.now() - planning } };
  });
  return { sequences: lengths.map((tokens) => ({ domain: 'all', tokens, bits: null })), layers: runs };
}

/** A replay keeps all that it is given: what was dropped then is dropped now. */
function dropAgain(routing: Routing, drops: Uint8Array): Routing {
  const { token, choice, choices } = routing;
  const reason = routing.reason.map((_, a) => drops[token[a]! * choices + choice[a]!]!);
  const slot = routing.slot.map((place, a) => (reason[a] === 0 ? place : -1));
  return { ...routing, reason, slot, weight: routing.weight.map((w, a) => (reason[a] === 0 ? w : 0)) };
}
