import { Readable } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import { TurnoutError } from '../../errors.js';
import { bytesIn } from './datatypes.js';
import type { InferRequest, RequestedOutput } from './request.js';
import { MODEL_VERSION, type Tensor } from './served-model.js';

export interface InferResponse {
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | Buffer | Readable;
}

/** Numbers written in one go: a millisecond or two of the thread that answers everybody. */
const VALUES_AT_ONCE = 4096;

/**
 * The outputs asked for -> headers and body: JSON alone, or JSON with binary tensors behind it, in the order asked for.
 * Throws TURNOUT_OUTPUT_NOT_FINITE for values that JSON cannot say.
 */
export async function writeResponse(
  model: string,
  { id, outputs }: Pick<InferRequest, 'id' | 'outputs'>,
  tensors: ReadonlyMap<string, Tensor>,
): Promise<InferResponse> {
  const chosen = outputs.map((output) => ({ ...output, tensor: tensors.get(output.name)! }));
  for (const output of chosen) if (!output.binary) checkFinite(output);
  const head = { model_name: model, model_version: MODEL_VERSION, ...(id === undefined ? {} : { id }) };
  const pieces = jsonPieces(head, chosen);
  const binary = chosen.filter((output) => output.binary).map(({ tensor }) => bytesIn(tensor.data));
  if (binary.length > 0) return withBinary(await joined(pieces), binary);
  const values = chosen.reduce((sum, { tensor }) => sum + tensor.data.length, 0);
  const body = values > VALUES_AT_ONCE ? Readable.from(unhurried(pieces)) : [...pieces].join('');
  return { headers: { 'content-type': 'application/json; charset=utf-8' }, body };
}

interface ChosenOutput extends RequestedOutput {
  readonly tensor: Tensor;
}

function withBinary(json: string, tensors: readonly Uint8Array[]): InferResponse {
  const head = Buffer.from(json);
  const headers = {
    'content-type': 'application/octet-stream',
    'inference-header-content-length': String(head.length),
  };
  return { headers, body: Buffer.concat([head, ...tensors]) };
}

function checkFinite({ name, tensor }: ChosenOutput): void {
  if (tensor.datatype !== 'FP32') return;
  const { data } = tensor;
  let at = 0;
  while (at < data.length && Number.isFinite(data[at])) at++;
  if (at === data.length) return;
  const message = `output ${name}: value ${at} is ${data[at]}, which JSON cannot say: ask for it as binary data (the parameter binary_data)`;
  throw new TurnoutError('TURNOUT_OUTPUT_NOT_FINITE', message, { output: name, index: at });
}

function* jsonPieces(head: object, outputs: readonly ChosenOutput[]): Generator<string> {
  yield `${JSON.stringify(head).slice(0, -1)},"outputs":[`;
  for (const [i, { name, binary, tensor }] of outputs.entries()) {
    const { datatype, shape, data } = tensor;
    const parameters = binary ? { parameters: { binary_data_size: data.byteLength } } : {};
    const described = JSON.stringify({ name, datatype, shape, ...parameters });
    yield `${i > 0 ? ',' : ''}${binary ? described : described.slice(0, -1)}`;
    if (binary) continue;
    yield ',"data":[';
    for (let from = 0; from < data.length; from += VALUES_AT_ONCE) {
      yield `${from > 0 ? ',' : ''}${data.subarray(from, from + VALUES_AT_ONCE).join()}`;
    }
    yield ']}';
  }
  yield ']}';
}

/** The same pieces, others served between them. */
async function* unhurried(pieces: Iterable<string>): AsyncGenerator<string> {
  for (const piece of pieces) {
    yield piece;
    if (piece.length > VALUES_AT_ONCE) await setImmediate();
  }
}

async function joined(pieces: Iterable<string>): Promise<string> {
  let text = '';
  for await (const piece of unhurried(pieces)) text += piece;
  return text;
}
