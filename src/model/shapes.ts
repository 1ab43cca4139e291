import { TurnoutError } from '../errors.js';
import { layerOptions, routerOver } from './layer-router.js';
import type { GraphStepEntry, Manifest, PagedStateEntry } from './manifest.js';
import type { OnnxSummary } from './onnx.js';

/** A dimension: a number, or a name for a size that is known only when run. */
type Dim = number | string;
type Shape = readonly Dim[];

/**
 * Every disagreement between the shapes in the ONNX files and the manifest: experts [n,H] -> [n,H], gates
 * [n,H] -> [n,E], and each trunk segment with the tensors that earlier steps made and with its state.
 */
export function* checkShapes(
  manifest: Manifest,
  graphs: ReadonlyMap<string, OnnxSummary>,
): Generator<TurnoutError> {
  const { hidden, vocabulary } = manifest.sizes;
  for (const layer of manifest.layers) {
    for (const { model } of [...layer.experts, ...(layer.shared ?? [])]) {
      yield* checkPorts(graphs.get(model)!, model, { x: ['n', hidden] }, { y: ['n', hidden] });
    }
    if (layer.gate && 'model' in layer.gate) {
      const { model } = layer.gate;
      const { experts } = routerOver(layerOptions(layer), layer.experts.length);
      yield* checkPorts(graphs.get(model)!, model, { x: ['n', hidden] }, { logits: ['n', experts] });
    }
  }
  const tensors = new Map<string, Shape>([
    [manifest.program.inputs.ids, ['n']],
    [manifest.program.inputs.positions, [1, 'n']],
    [manifest.program.inputs.select, ['m']],
  ]);
  for (const step of manifest.program.steps) {
    if (step.kind === 'graph') {
      yield* checkSegment(manifest, step, graphs.get(step.model)!, tensors);
      continue;
    }
    const input = tensors.get(step.input);
    if (input && !compatible(input, ['n', hidden])) {
      yield mismatch(`layer ${step.layer}`, step.input, ['n', hidden], input);
    }
    tensors.set(step.output, ['n', hidden]);
  }
  const logits = tensors.get(manifest.program.outputs.logits);
  if (logits && !compatible(logits, ['m', vocabulary])) {
    yield mismatch('program.outputs', manifest.program.outputs.logits, ['m', vocabulary], logits);
  }
}

function* checkSegment(
  manifest: Manifest,
  step: GraphStepEntry,
  graph: OnnxSummary,
  tensors: Map<string, Shape>,
): Generator<TurnoutError> {
  const inputs: Record<string, Shape> = {};
  for (const [port, tensor] of Object.entries(step.inputs)) {
    const shape = tensors.get(tensor);
    if (shape) inputs[port] = shape;
  }
  const state = manifest.program.states.find((entry) => entry.name === step.state);
  const outputs: Record<string, Shape | undefined> = Object.fromEntries(
    Object.keys(step.outputs).map((port) => [port, undefined]),
  );
  if (state?.kind === 'paged') {
    Object.assign(inputs, pagedInputs(state));
    outputs.k_new = ['n', state.heads * state.size];
    outputs.v_new = ['n', state.heads * state.size];
  }
  if (state?.kind === 'replace') {
    inputs[state.input] = state.initial;
    outputs[state.output] = undefined;
  }
  yield* checkPorts(graph, step.model, inputs, outputs);
  for (const [port, tensor] of Object.entries(step.outputs)) {
    const found = graph.outputs.find((entry) => entry.name === port);
    if (found) tensors.set(tensor, found.dims);
  }
}

/** Shapes of the inputs that a segment with a paged state must have. */
function pagedInputs(state: PagedStateEntry): Record<string, Shape> {
  const { heads, size, block } = state;
  const pool: Shape = ['blocks', heads, block, size];
  return {
    k_pool: pool,
    v_pool: pool,
    owner: ['blocks'],
    mask: ['blocks', 1, 1, block],
    decode_rows: [1],
    chunk_k_pool: pool,
    chunk_v_pool: pool,
    chunk_blocks: ['chunk blocks'],
    chunk_past: [1],
    chunk_mask: [1, 1, 1, 'past'],
    chunk_causal: [1, 1, 'chunk', 'chunk'],
  };
}

function* checkPorts(
  graph: OnnxSummary,
  file: string,
  inputs: Record<string, Shape>,
  outputs: Record<string, Shape | undefined>,
): Generator<TurnoutError> {
  for (const [side, wanted, found] of [
    ['input', inputs, graph.inputs],
    ['output', outputs, graph.outputs],
  ] as const) {
    for (const [port, shape] of Object.entries(wanted)) {
      const has = found.find((entry) => entry.name === port);
      if (!has) {
        const names = found.map((entry) => entry.name).join(', ');
        yield new TurnoutError(
          'TURNOUT_PACKAGE_SHAPE_MISMATCH',
          `${file}: expected an ${side} ${port}, it has ${names || 'none'}`,
          { file, port },
        );
      } else if (shape && !compatible(has.dims, shape)) {
        yield mismatch(file, port, shape, has.dims);
      }
    }
  }
  for (const { name } of graph.inputs) {
    if (!Object.hasOwn(inputs, name)) {
      yield new TurnoutError('TURNOUT_PACKAGE_SHAPE_MISMATCH', `${file}: nothing feeds its input ${name}`, {
        file,
        port: name,
      });
    }
  }
}

/** Same rank, and equal wherever both are numbers. */
function compatible(a: Shape, b: Shape): boolean {
  return (
    a.length === b.length &&
    a.every((dim, i) => typeof dim === 'string' || typeof b[i] === 'string' || dim === b[i])
  );
}

function mismatch(where: string, port: string, expected: Shape, got: Shape): TurnoutError {
  return new TurnoutError(
    'TURNOUT_PACKAGE_SHAPE_MISMATCH',
    `${where}: ${port} is expected to be [${expected.join(', ')}], got [${got.join(', ')}]`,
    { where, port, expected, got },
  );
}
