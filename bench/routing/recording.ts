import Type, { type Static } from 'typebox';
import { TurnoutError } from '../../src/errors.js';
import { DROP_REASONS } from '../../src/router/routing.js';
import { checker } from '../../src/schema.js';
import { matrix } from '../../src/tensor.js';
import type { LayerCost } from './cost.js';
import { hashOf } from './hash.js';
import { type LogitsSequence, logitsSource, type SequenceLayer } from './logits-source.js';
import type { Source } from './source.js';

const Layer = Type.Object({
  name: Type.String(),
  experts: Type.Integer({ minimum: 1 }),
  choices: Type.Integer({ minimum: 1 }),
  causal: Type.Optional(Type.Boolean()),
});

/** What the server records (`turnout-recording`, version 1). Arrays are little-endian numbers in base64. */
const Recording = Type.Object({
  format: Type.Literal('turnout-recording'),
  version: Type.Literal(1),
  model: Type.String(),
  layers: Type.Array(Layer, { minItems: 1 }),
  requests: Type.Array(
    Type.Object({
      tokens: Type.Integer({ minimum: 0 }),
      ids: Type.String(),
      layers: Type.Array(
        Type.Object({
          logits: Type.String(),
          experts: Type.String(),
          weights: Type.String(),
          drops: Type.String(),
        }),
      ),
    }),
  ),
});
type Recording = Static<typeof Recording>;
type RecordedRequest = Recording['requests'][number];

const check = checker(Recording, 'TURNOUT_INPUT_INVALID', 'recording');

export interface RecordingOptions {
  /** Parsed JSON of a recording. */
  readonly value: unknown;
  readonly perCall: number;
  readonly cost?: LayerCost | undefined;
}

/**
 * The logits of recorded requests, to be routed again; what was recorded is the rule `recorded`. Throws
 * TURNOUT_INPUT_INVALID for what is no recording or holds no token, and TURNOUT_SHAPE_MISMATCH for arrays of other
 * lengths than its tokens, experts and choices ask for.
 */
export function openRecording({ value, perCall, cost }: RecordingOptions): Source {
  const recording = check(value);
  const { model, layers, requests } = recording;
  const sequences = requests
    .map((request, r) => readRequest(recording, request, `requests[${r}]`))
    .filter(({ tokens }) => tokens > 0);
  if (sequences.length === 0)
    throw new TurnoutError('TURNOUT_INPUT_INVALID', 'recording: expected requests with tokens, got none');
  const options = layers.map(({ choices }) => ({ algorithm: 'given', k: choices }) as const);
  return logitsSource({
    description: {
      kind: 'recording',
      model,
      sequences: sequences.length,
      tokens: sequences.reduce((sum, { tokens }) => sum + tokens, 0),
      sequencesPerCall: perCall,
      recordingHash: hashOf(JSON.stringify({ layers, requests })),
    },
    layers: layers.map(({ name, experts }) => ({ name, experts })),
    causal: layers.every(({ causal }) => causal !== false),
    baseline: { name: 'recorded', options },
    sequences,
    perCall,
    cost,
  });
}

function readRequest({ layers }: Recording, request: RecordedRequest, where: string): LogitsSequence {
  const { tokens } = request;
  if (request.layers.length !== layers.length)
    throw mismatch(`${where}.layers`, layers.length, request.layers.length);
  return {
    tokens,
    ids: new Int32Array(bytesOf(request.ids, 4 * tokens, `${where}.ids`)),
    layers: request.layers.map((layer, l): SequenceLayer => {
      const { experts, choices } = layers[l]!;
      const at = `${where}.layers[${l}]`;
      const size = tokens * choices;
      const logits = new Float32Array(bytesOf(layer.logits, 4 * tokens * experts, `${at}.logits`));
      const given = {
        experts: new Int32Array(bytesOf(layer.experts, 4 * size, `${at}.experts`)),
        weights: new Float32Array(bytesOf(layer.weights, 4 * size, `${at}.weights`)),
        drops: new Uint8Array(bytesOf(layer.drops, size, `${at}.drops`)),
      };
      checkDrops(given.drops, `${at}.drops`);
      return { logits: matrix(logits, tokens, experts), given };
    }),
  };
}

function checkDrops(drops: Uint8Array, where: string): void {
  const wrong = drops.find((reason) => reason >= DROP_REASONS.length);
  if (wrong === undefined) return;
  const message = `recording: ${where}: expected numbers from 0 to ${DROP_REASONS.length - 1}, got ${wrong}`;
  throw new TurnoutError('TURNOUT_INPUT_INVALID', message, { got: wrong });
}

/** Base64 -> a buffer of its own: views of numbers must be aligned. */
function bytesOf(text: string, expected: number, where: string): ArrayBuffer {
  const bytes = Buffer.from(text, 'base64');
  if (bytes.length !== expected) throw mismatch(where, expected, bytes.length);
  return new Uint8Array(bytes).buffer;
}

function mismatch(where: string, expected: number, got: number): TurnoutError {
  const message = `recording: ${where}: expected ${expected}${where.endsWith('layers') ? '' : ' bytes'}, got ${got}`;
  return new TurnoutError('TURNOUT_SHAPE_MISMATCH', message, { expected, got });
}
