import { TurnoutError } from '../../errors.js';
import { shown } from '../../schema.js';
import { bytesOf, checkDatatype, tensorFromBytes, tensorFromRows } from './datatypes.js';
import { MAX_VALUES } from './limits.js';
import type { RequestInputBody } from './schemas.js';
import type { ServedModel, Tensor, TensorSpec } from './served-model.js';

/** The binary tensors behind the JSON, taken one after the other. */
export class BinaryTail {
  #at = 0;

  /** `bytes` is left out where the request has no header that says where its JSON ends. */
  constructor(readonly bytes?: Uint8Array) {}

  take(length: number, what: string): Uint8Array {
    if (!this.bytes) {
      const message = `${what}: binary_data_size needs the header Inference-Header-Content-Length`;
      throw new TurnoutError('TURNOUT_REQUEST_INVALID', message);
    }
    const left = this.bytes.length - this.#at;
    if (length > left) {
      const message = `${what}: expected ${length} bytes of binary data, ${left} are left in the body`;
      throw new TurnoutError('TURNOUT_REQUEST_INVALID', message, { length, left });
    }
    this.#at += length;
    return this.bytes.subarray(this.#at - length, this.#at);
  }

  /** Throws TURNOUT_REQUEST_INVALID where bytes are left that no input asked for. */
  end(): void {
    const left = (this.bytes?.length ?? 0) - this.#at;
    if (left === 0) return;
    const message = `the body has ${left} bytes more than its JSON and the binary_data_size of its inputs together`;
    throw new TurnoutError('TURNOUT_REQUEST_INVALID', message, { left });
  }
}

/** The tensors of a request, all that the model takes. Throws TURNOUT_INPUT_INVALID, TURNOUT_SHAPE_MISMATCH or TURNOUT_REQUEST_INVALID. */
export function readInputs(
  model: ServedModel,
  inputs: readonly RequestInputBody[],
  tail: BinaryTail,
): Map<string, Tensor> {
  const specs = new Map(model.inputs.map((spec) => [spec.name, spec]));
  const tensors = new Map<string, Tensor>();
  for (const input of inputs) {
    const spec = specs.get(input.name);
    if (!spec) throw unknown(model, input.name);
    if (tensors.has(input.name)) {
      throw new TurnoutError('TURNOUT_INPUT_INVALID', `the input ${input.name} stands twice in the request`);
    }
    tensors.set(input.name, readInput(input, spec, tail));
  }
  tail.end();
  const missing = model.inputs.find(({ name }) => !tensors.has(name));
  if (missing) {
    throw new TurnoutError('TURNOUT_INPUT_INVALID', `the input ${missing.name} is missing from the request`);
  }
  return tensors;
}

/** A body that is nothing but the one tensor of the model; its shape follows from its length. */
export function readRawInput(model: ServedModel, body: Uint8Array): Map<string, Tensor> {
  const [spec] = model.inputs;
  if (!spec || model.inputs.length !== 1) {
    const message = `${model.name} takes ${model.inputs.length} inputs: a raw body (Inference-Header-Content-Length: 0) holds one`;
    throw new TurnoutError('TURNOUT_REQUEST_INVALID', message);
  }
  const shape = shapesOf(spec).find((dims) => dims.filter((dim) => dim < 0).length <= 1);
  if (!shape) {
    const message = `the shape of ${spec.name} cannot be told from the length of a raw body: send it with JSON`;
    throw new TurnoutError('TURNOUT_REQUEST_INVALID', message);
  }
  const unit = shape.reduce((product, dim) => (dim < 0 ? product : product * dim), bytesOf(spec.datatype));
  const count = body.length / unit;
  if (!Number.isInteger(count) || (count !== 1 && !shape.includes(-1))) {
    const message = `${spec.name}: expected a multiple of ${unit} bytes for ${spec.datatype} ${text(shape)}, got ${body.length}`;
    throw new TurnoutError('TURNOUT_SHAPE_MISMATCH', message, { unit, got: body.length });
  }
  const filled = shape.map((dim) => (dim < 0 ? count : dim));
  return new Map([[spec.name, tensorFromBytes({ datatype: spec.datatype, shape: filled }, body)]]);
}

function readInput(input: RequestInputBody, spec: TensorSpec, tail: BinaryTail): Tensor {
  const what = `input ${spec.name}`;
  const { shape, data } = input;
  checkDatatype(input.datatype, spec.datatype, what);
  const values = checkShape(shape, spec, what);
  const tensor = { datatype: spec.datatype, shape };
  const size = input.parameters?.binary_data_size;
  if ((size === undefined) === (data === undefined)) {
    const came = size === undefined ? 'neither' : 'both';
    throw new TurnoutError(
      'TURNOUT_INPUT_INVALID',
      `${what}: expected either data or the parameter binary_data_size, got ${came}`,
    );
  }
  if (size === undefined) return tensorFromRows(tensor, rowsOf(data, shape, what), what);
  const expected = values * bytesOf(spec.datatype);
  if (size !== expected) {
    const message = `${what}: expected binary_data_size ${expected} for ${spec.datatype} ${text(shape)}, got ${size}`;
    throw new TurnoutError('TURNOUT_SHAPE_MISMATCH', message, { expected, got: size });
  }
  return tensorFromBytes(tensor, tail.take(size, what));
}

/** The number of values of a shape that the model takes. */
function checkShape(shape: readonly number[], spec: TensorSpec, what: string): number {
  const fits = (dims: readonly number[]) =>
    dims.length === shape.length && dims.every((dim, axis) => dim < 0 || dim === shape[axis]);
  if (!shapesOf(spec).some(fits)) {
    const expected = shapesOf(spec).map(text).join(' or ');
    const message = `${what}: expected the shape ${expected} (-1: any), got ${text(shape)}`;
    throw new TurnoutError('TURNOUT_SHAPE_MISMATCH', message, { expected, got: shape });
  }
  // A dimension of 0 must not hide a huge one beside it.
  const claimed = shape.reduce((product, dim) => product * Math.max(1, dim), 1);
  if (claimed > MAX_VALUES) {
    const message = `${what}: the shape ${text(shape)} has more values than any request can hold`;
    throw new TurnoutError('TURNOUT_SHAPE_MISMATCH', message, { got: shape });
  }
  return shape.includes(0) ? 0 : claimed;
}

/**
 * Flat or nested data -> its innermost lists, whose values together are as many as the shape says. Goes one level down for
 * each dimension, so that nothing is reserved for values that did not come, and depth costs nothing.
 */
function rowsOf(data: unknown, shape: readonly number[], what: string): readonly (readonly unknown[])[] {
  if (!Array.isArray(data)) {
    throw new TurnoutError('TURNOUT_INPUT_INVALID', `${what}: expected data as a list, got ${shown(data)}`);
  }
  const values = shape.reduce((product, dim) => product * dim, 1);
  if (!Array.isArray(data[0])) {
    if (data.length === values) return [data];
    const message = `${what}: expected ${values} values of data for the shape ${text(shape)}, got ${data.length}`;
    throw new TurnoutError('TURNOUT_SHAPE_MISMATCH', message, { expected: values, got: data.length });
  }
  let lists: readonly unknown[][] = [data];
  for (const [axis, dim] of shape.entries()) {
    const wrong = lists.find((list) => !Array.isArray(list) || list.length !== dim);
    if (wrong !== undefined) {
      const got = Array.isArray(wrong) ? `one of ${wrong.length}` : shown(wrong);
      const message = `${what}: expected lists of ${dim} in level ${axis + 1} of data for the shape ${text(shape)}, got ${got}`;
      throw new TurnoutError('TURNOUT_SHAPE_MISMATCH', message, { axis, expected: dim });
    }
    if (axis < shape.length - 1) lists = lists.flat() as unknown[][];
  }
  return lists;
}

function shapesOf({ shape, single }: TensorSpec): readonly (readonly number[])[] {
  return single ? [shape, single] : [shape];
}

function unknown(model: ServedModel, name: string): TurnoutError {
  const known = model.inputs.map((spec) => spec.name).join(', ');
  return new TurnoutError(
    'TURNOUT_INPUT_INVALID',
    `${model.name} has no input ${shown(name)}; it takes ${known}`,
  );
}

function text(shape: readonly number[]): string {
  return `[${shape.join(', ')}]`;
}
