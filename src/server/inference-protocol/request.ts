import { TurnoutError } from '../../errors.js';
import { checker, shown } from '../../schema.js';
import { parseJson } from '../json.js';
import { BinaryTail, readInputs, readRawInput } from './inputs.js';
import type { ProtocolLimits } from './limits.js';
import { type InferRequestBody, InferRequestSchema } from './schemas.js';
import type { ServedModel, Tensor } from './served-model.js';

export interface RequestedOutput {
  readonly name: string;
  /** As bytes behind the JSON, or as numbers in it. */
  readonly binary: boolean;
}

export interface InferRequest {
  readonly id?: string;
  readonly inputs: ReadonlyMap<string, Tensor>;
  /** In the order of the answer. */
  readonly outputs: readonly RequestedOutput[];
  readonly timeoutMs?: number;
  readonly priority: number;
}

/** What is needed to read a body: it means nothing without its header and its model. */
export interface ReceivedBody {
  readonly bytes: Uint8Array;
  /** The header Inference-Header-Content-Length. */
  readonly headerLength?: string;
}

const checkBody = checker(InferRequestSchema, 'TURNOUT_REQUEST_INVALID', 'inference request');

/** The longest time that timers can wait. */
const MAX_TIMEOUT_MS = 2 ** 31 - 1;

/**
 * The body of `infer` -> checked tensors and settings. Three forms: JSON alone; JSON and binary tensors behind it; one
 * binary tensor alone, which is answered in binary. Nothing is converted or left aside in silence.
 * Throws TURNOUT_REQUEST_INVALID, TURNOUT_REQUEST_TOO_LARGE, TURNOUT_UNSUPPORTED, TURNOUT_INPUT_INVALID or
 * TURNOUT_SHAPE_MISMATCH.
 */
export function readRequest(
  { bytes, headerLength }: ReceivedBody,
  model: ServedModel,
  limits: Pick<ProtocolLimits, 'jsonBytes'>,
): InferRequest {
  const length = jsonLength(bytes, headerLength);
  if (length === 0 && headerLength !== undefined) {
    const outputs = model.outputs.map(({ name }) => ({ name, binary: true }));
    return { inputs: readRawInput(model, bytes), outputs, priority: 0 };
  }
  if (length > limits.jsonBytes) {
    const message = `expected at most ${limits.jsonBytes} bytes of JSON, got ${length}: send large tensors as binary data`;
    throw new TurnoutError('TURNOUT_REQUEST_TOO_LARGE', message, { limit: limits.jsonBytes, got: length });
  }
  const body = checkBody(parseJson(bytes.subarray(0, length)));
  checkNames(body, model);
  const tail = new BinaryTail(headerLength === undefined ? undefined : bytes.subarray(length));
  return {
    ...(body.id === undefined ? {} : { id: body.id }),
    inputs: readInputs(model, body.inputs, tail),
    outputs: readOutputs(body, model),
    ...settings(body.parameters),
  };
}

function jsonLength(bytes: Uint8Array, header: string | undefined): number {
  if (header === undefined) return bytes.length;
  const length = /^\d{1,15}$/.test(header) ? Number(header) : Number.NaN;
  if (length <= bytes.length) return length;
  const message = `Inference-Header-Content-Length: expected a whole number up to the length of the body, ${bytes.length}, got ${shown(header)}`;
  throw new TurnoutError('TURNOUT_REQUEST_INVALID', message);
}

function checkNames({ model_name: name }: InferRequestBody, model: ServedModel): void {
  if (name === undefined || name === model.name) return;
  const message = `model_name: expected ${model.name}, as in the address, got ${shown(name)}`;
  throw new TurnoutError('TURNOUT_REQUEST_INVALID', message);
}

function readOutputs({ outputs = [], parameters }: InferRequestBody, model: ServedModel): RequestedOutput[] {
  const all = parameters?.binary_data_output ?? false;
  const known = model.outputs.map(({ name }) => name);
  if (outputs.length === 0) return known.map((name) => ({ name, binary: all }));
  const seen = new Set<string>();
  return outputs.map(({ name, parameters: own }) => {
    if (!known.includes(name)) {
      const message = `${model.name} has no output ${shown(name)}; it gives ${known.join(', ')}`;
      throw new TurnoutError('TURNOUT_INPUT_INVALID', message);
    }
    if (seen.has(name)) {
      throw new TurnoutError('TURNOUT_INPUT_INVALID', `the output ${name} stands twice in the request`);
    }
    seen.add(name);
    return { name, binary: own?.binary_data ?? all };
  });
}

/** Triton's client sends sequence parameters with a sequence id alone, priority where it is not 0, and timeout where given. */
function settings(
  parameters: InferRequestBody['parameters'] = {},
): Pick<InferRequest, 'timeoutMs' | 'priority'> {
  const { timeout = 0, priority = 0, sequence_id: sequence = 0 } = parameters;
  const stateful = sequence !== 0 && sequence !== '';
  if (stateful || parameters.sequence_start || parameters.sequence_end) {
    const message = 'sequence_id, sequence_start, sequence_end: no model here keeps a state between requests';
    throw new TurnoutError('TURNOUT_UNSUPPORTED', message);
  }
  if (timeout === 0) return { priority };
  return { timeoutMs: Math.min(Math.ceil(timeout / 1000), MAX_TIMEOUT_MS), priority };
}
