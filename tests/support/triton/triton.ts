import { execFile } from 'node:child_process';
import { join } from 'node:path';
import type { Datatype } from '#turnout/server/inference-protocol/served-model.js';
import { pythonTool } from '../python-tool.js';

const found = pythonTool('triton');

export const tritonMissing = found.missing;

export interface SentTensor {
  readonly name: string;
  readonly datatype: Datatype;
  readonly shape: readonly number[];
  readonly data: ArrayBufferView;
  /** As bytes behind the JSON, or as numbers in it. */
  readonly binary: boolean;
}

export interface TritonInfer {
  readonly method: 'infer';
  readonly model: string;
  readonly inputs: readonly SentTensor[];
  readonly outputs?: readonly { readonly name: string; readonly binary: boolean }[];
  /** Arguments of the client's `infer`. */
  readonly options?: Readonly<Record<string, unknown>>;
  /** Through `async_infer`. */
  readonly later?: boolean;
}

export type TritonCall = TritonInfer | { readonly method: string; readonly arguments?: readonly string[] };

/** Makes the calls, one after the other over one client, and gives what it made of the answers. */
export async function callTriton(address: string, calls: readonly TritonCall[]): Promise<unknown[]> {
  const written = calls.map((call) =>
    'inputs' in call ? { ...call, inputs: call.inputs.map(write) } : call,
  );
  const output = await new Promise<string>((resolve, reject) => {
    const script = join(import.meta.dirname, 'client.py');
    const options = { maxBuffer: 256 * 1024 * 1024 };
    const child = execFile(join(found.bin!, 'python'), [script], options, (error, stdout, stderr) =>
      error ? reject(new Error(`${error.message}\n${stderr}`)) : resolve(stdout),
    );
    child.stdin!.end(JSON.stringify({ address, calls: written }));
  });
  return JSON.parse(output);
}

/** A tensor as the client gives it back. */
export function received(datatype: Datatype, shape: readonly number[], data: ArrayBufferView): object {
  return { datatype, shape, base64: base64Of(data) };
}

function write({ data, ...rest }: SentTensor): object {
  return { ...rest, base64: base64Of(data) };
}

function base64Of({ buffer, byteOffset, byteLength }: ArrayBufferView): string {
  return Buffer.from(buffer as ArrayBuffer, byteOffset, byteLength).toString('base64');
}
