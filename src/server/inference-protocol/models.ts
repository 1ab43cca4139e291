import { TurnoutError } from '../../errors.js';
import type { LayerAnswer } from '../../model/layer-calls.js';
import { type Matrix, matrix } from '../../tensor.js';
import type { ServerContext } from '../context.js';
import { routingTable } from '../routing-table.js';
import { blocksOf, withPlace } from '../work.js';
import type { InferCall, ServedModel, Tensor } from './served-model.js';

/** Bytes of logits of one answer; in JSON it is some five times as long. */
const MAX_LOGITS_BYTES = 64 * 1024 * 1024;
/** Rows of one request to a layer: they are one sequence, and hold up those of others while they compute. */
const MAX_ROWS = 4096;

const PLATFORM = 'turnout_moe';

/** The models that a server has by the Open Inference Protocol: the package, and each of its MoE layers. */
export function servedModels(context: ServerContext): ServedModel[] {
  return [wholeModel(context), ...context.engine.info.layers.map((_, index) => layerModel(context, index))];
}

/** input_ids [B, T] or [T] -> logits [B, T, V] or [T, V]. */
function wholeModel(context: ServerContext): ServedModel {
  const { name, sizes } = context.engine.info.manifest;
  const { vocabulary } = sizes;
  return {
    name,
    platform: PLATFORM,
    inputs: [{ name: 'input_ids', datatype: 'INT64', shape: [-1, -1], single: [-1] }],
    outputs: [{ name: 'logits', datatype: 'FP32', shape: [-1, -1, vocabulary] }],
    ready: () => context.ready(),
    infer: async (inputs, call) => {
      const { shape, data } = inputs.get('input_ids')!;
      checkTokens(shape, vocabulary);
      const lengths = Array.from({ length: shape.length === 2 ? shape[0]! : 1 }, () => shape.at(-1)!);
      const need = { sequences: lengths.length, blocks: blocksOf(context, lengths), ...demand(call) };
      const outputs = await withPlace(context, need, (limits) =>
        context.engine.score({ ids: data as BigInt64Array, dims: shape }, limits),
      );
      const logits = outputs.logits!.data as Float32Array;
      return new Map([['logits', floats([...shape, vocabulary], logits)]]);
    },
  };
}

/** hidden_states [T, H] -> output_states [T, H] and the routing behind them, of one layer alone. */
function layerModel(context: ServerContext, index: number): ServedModel {
  const { manifest, layers } = context.engine.info;
  const { experts, choices, hasGate } = layers[index]!;
  const { hidden } = manifest.sizes;
  const perChoice = { shape: [-1, choices] };
  const routerLogits = { name: 'router_logits', datatype: 'FP32', shape: [-1, experts] } as const;
  return {
    name: `${manifest.name}.layers.${index}`,
    platform: PLATFORM,
    inputs: [
      { name: 'hidden_states', datatype: 'FP32', shape: [-1, hidden] },
      ...(hasGate ? [] : [routerLogits]),
    ],
    outputs: [
      { name: 'output_states', datatype: 'FP32', shape: [-1, hidden] },
      routerLogits,
      { name: 'experts', datatype: 'INT32', ...perChoice },
      { name: 'weights', datatype: 'FP32', ...perChoice },
      { name: 'dropped', datatype: 'UINT8', ...perChoice },
    ],
    ready: () => context.ready(),
    infer: async (inputs, call) => {
      const x = matrixOf(inputs.get('hidden_states')!);
      checkRows(x.rows);
      const logits = inputs.get('router_logits');
      const request = { x, ...(logits && { logits: matrixOf(logits) }) };
      const need = { sequences: 1, blocks: 0, ...demand(call) };
      return layerTensors(
        await withPlace(context, need, (limits) => context.engine.layer(index, request, limits)),
      );
    },
  };
}

function demand({ priority, timeoutMs, signal }: InferCall): Pick<InferCall, 'signal' | 'priority'> {
  return { priority, signal, ...(timeoutMs !== undefined && { timeoutMs }) };
}

function layerTensors({ y, routing }: LayerAnswer): Map<string, Tensor> {
  const { logits, tokens, choices } = routing;
  const { experts, weights, drops } = routingTable([routing]);
  return new Map<string, Tensor>([
    ['output_states', floats([y.rows, y.cols], y.data)],
    ['router_logits', floats([logits.rows, logits.cols], logits.data)],
    ['experts', { datatype: 'INT32', shape: [tokens, choices], data: experts }],
    ['weights', floats([tokens, choices], weights)],
    ['dropped', { datatype: 'UINT8', shape: [tokens, choices], data: drops }],
  ]);
}

function checkTokens(shape: readonly number[], vocabulary: number): void {
  const tokens = shape.reduce((product, dim) => product * dim, 1);
  if (tokens === 0) throw new TurnoutError('TURNOUT_INPUT_INVALID', 'input_ids: expected at least one token');
  const most = Math.floor(MAX_LOGITS_BYTES / 4 / vocabulary);
  if (tokens <= most) return;
  const message = `input_ids: expected at most ${most} tokens, for ${MAX_LOGITS_BYTES} bytes of logits, got ${tokens}`;
  throw new TurnoutError('TURNOUT_REQUEST_TOO_LARGE', message, { limit: most, got: tokens });
}

function checkRows(rows: number): void {
  if (rows === 0) throw new TurnoutError('TURNOUT_INPUT_INVALID', 'hidden_states: expected at least one row');
  if (rows <= MAX_ROWS) return;
  const message = `hidden_states: expected at most ${MAX_ROWS} rows, got ${rows}`;
  throw new TurnoutError('TURNOUT_REQUEST_TOO_LARGE', message, { limit: MAX_ROWS, got: rows });
}

function matrixOf({ data, shape }: Tensor): Matrix {
  return matrix(data as Float32Array, shape[0]!, shape[1]!);
}

function floats(shape: readonly number[], data: Float32Array): Tensor {
  return { datatype: 'FP32', shape, data };
}
