import { stat } from 'node:fs/promises';
import { InferenceSession, listSupportedBackends, env as runtimeEnv, Tensor } from 'onnxruntime-node';
import { TurnoutError } from '../errors.js';
import type { Residency } from './backend.js';
import { CallGate } from './call-gate.js';
import { type Device, providerOptions } from './device.js';

/** Element types that sessions take and give, with their arrays. */
interface TensorArrays {
  float32: Float32Array;
  float64: Float64Array;
  int8: Int8Array;
  uint8: Uint8Array;
  int16: Int16Array;
  uint16: Uint16Array;
  int32: Int32Array;
  uint32: Uint32Array;
  int64: BigInt64Array;
  uint64: BigUint64Array;
  bool: Uint8Array;
}
type TensorType = keyof TensorArrays;

/** A tensor as plain data, row-major: `data.length` is the product of `dims` (0 where one of them is 0). */
interface TensorOf<T extends TensorType> {
  readonly type: T;
  readonly dims: readonly number[];
  readonly data: TensorArrays[T];
}
export type PlainTensor = { [T in TensorType]: TensorOf<T> }[TensorType];
type Tensors = Readonly<Record<string, PlainTensor>>;

/** An input or output of a graph. A dimension is a number, or a name where it is known only when run. */
export interface TensorSpec {
  readonly name: string;
  /** An element type of ONNX Runtime; wider than TensorType. */
  readonly type: string;
  readonly shape: readonly (number | string)[];
}

export interface SessionOptions {
  /** `packed` where left out. */
  readonly residency?: Residency;
  /** The CPU where left out. On another one nothing falls back to the CPU: what it cannot do is an error. */
  readonly device?: Device;
  /** Begin of the name of a file that ONNX Runtime writes its profile to once the session is released. */
  readonly profile?: string;
}

/**
 * One ONNX graph with one thread of its own calls. `run` blocks the JavaScript thread that it is called on for as long
 * as the graph computes, so servers call it off their event loop.
 */
export interface Session extends AsyncDisposable {
  /** Absolute or relative path that it was opened from. */
  readonly file: string;
  readonly inputMetadata: readonly TensorSpec[];
  readonly outputMetadata: readonly TensorSpec[];
  /**
   * Feeds, one for each input -> the outputs named in `fetch`, or all of them. Feeds are read in place (views too, but
   * not over shared memory); outputs are fresh arrays. Throws TURNOUT_SESSION_FAILED, or TURNOUT_CLOSED once released.
   */
  run(feeds: Tensors, fetch?: readonly string[]): Promise<Record<string, PlainTensor>>;
  /** Waits for runs under way, then frees the graph. Calling it twice is allowed. */
  release(): Promise<void>;
}

/**
 * Opens an ONNX file; external data is looked for beside it. Throws TURNOUT_FILE_MISSING or TURNOUT_SESSION_FAILED.
 */
export async function openSession(path: string, options: SessionOptions = {}): Promise<Session> {
  const info = await stat(path).catch(() => undefined);
  if (!info?.isFile()) {
    throw new TurnoutError('TURNOUT_FILE_MISSING', `expected an ONNX file at ${path}`, { file: path });
  }
  return create(path, path, sessionOptions(options));
}

/** What goes wrong is thrown, so it is not written to stderr as well. */
const SILENT = 4;

function sessionOptions({ residency, device, profile }: SessionOptions): InferenceSession.SessionOptions {
  const elsewhere = device !== undefined && device.provider !== 'cpu';
  return {
    ...(elsewhere ? { executionProviders: [providerOptions(device)] } : {}),
    ...(profile === undefined ? {} : { enableProfiling: true, profileFilePrefix: profile }),
    intraOpNumThreads: 1,
    interOpNumThreads: 1,
    executionMode: 'sequential',
    logSeverityLevel: SILENT,
    extra: {
      session: {
        intra_op: { allow_spinning: '0' },
        ...(residency === 'mapped' ? { disable_prepacking: '1' } : {}),
        ...(elsewhere ? { disable_cpu_ep_fallback: '1' } : {}),
      },
    },
  };
}

async function create(
  file: string,
  model: string | Uint8Array,
  options: InferenceSession.SessionOptions,
): Promise<Session> {
  try {
    const native = await InferenceSession.create(model as string, options);
    return new OpenSession(file, native);
  } catch (cause) {
    throw failed(file, 'could not be opened', cause);
  }
}

class OpenSession implements Session {
  readonly inputMetadata: readonly TensorSpec[];
  readonly outputMetadata: readonly TensorSpec[];
  readonly #native: InferenceSession;
  readonly #calls: CallGate;
  #released: Promise<void> | undefined;

  constructor(
    readonly file: string,
    native: InferenceSession,
  ) {
    this.#native = native;
    this.#calls = new CallGate(`session ${file}`);
    this.inputMetadata = native.inputMetadata.map(specOf);
    this.outputMetadata = native.outputMetadata.map(specOf);
  }

  async run(feeds: Tensors, fetch?: readonly string[]): Promise<Record<string, PlainTensor>> {
    this.#calls.enter();
    try {
      const native: Record<string, Tensor> = {};
      for (const name in feeds) native[name] = toNative(feeds[name]!);
      const outputs = await (fetch ? this.#native.run(native, fetch) : this.#native.run(native));
      const plain: Record<string, PlainTensor> = {};
      for (const name in outputs) plain[name] = toPlain(outputs[name]!);
      return plain;
    } catch (cause) {
      throw failed(this.file, 'could not be run', cause);
    } finally {
      this.#calls.leave();
    }
  }

  release(): Promise<void> {
    this.#released ??= this.#calls.close().then(() => this.#native.release());
    return this.#released;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.release();
  }
}

function specOf(meta: InferenceSession.ValueMetadata): TensorSpec {
  return meta.isTensor
    ? { name: meta.name, type: meta.type, shape: meta.shape.map((dim) => (dim === '' ? '?' : dim)) }
    : { name: meta.name, type: 'not a tensor', shape: [] };
}

function toNative({ type, data, dims }: PlainTensor): Tensor {
  return new Tensor(type as 'float32', data as Float32Array, dims);
}

function toPlain({ type, data, dims }: Tensor): PlainTensor {
  return { type, data, dims } as PlainTensor;
}

function failed(file: string, what: string, cause: unknown): TurnoutError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new TurnoutError(
    'TURNOUT_SESSION_FAILED',
    `${file} ${what}: ${reason}`,
    { file, reason },
    { cause },
  );
}

/** What this installation of ONNX Runtime brings. */
export interface RuntimeInfo {
  readonly onnxruntime: string;
  /** Execution providers that this build knows. `bundled` ones need no other libraries of ONNX Runtime. */
  readonly providers: readonly { readonly name: string; readonly bundled: boolean }[];
}

export function runtimeInfo(): RuntimeInfo {
  return {
    onnxruntime: runtimeEnv.versions.node ?? runtimeEnv.versions.common,
    providers: listSupportedBackends(),
  };
}

export type ProviderTrial =
  | { readonly ok: true; readonly milliseconds: number }
  | { readonly ok: false; readonly error: string };

/**
 * Opens a float32 graph on one execution provider, with fallback to the CPU disabled, and runs it once: every unknown dimension
 * is 1, every value 0.5. Never throws for what the provider says; a driver that crashes takes the process with it,
 * so try unknown ones in a process of their own.
 */
export async function tryProvider(name: string, model: string | Uint8Array): Promise<ProviderTrial> {
  const started = performance.now();
  const session = name === 'cpu' ? {} : { disable_cpu_ep_fallback: '1' };
  try {
    const file = typeof model === 'string' ? model : `${name} trial`;
    await using trial = await create(file, model, {
      executionProviders: [name],
      logSeverityLevel: SILENT,
      intraOpNumThreads: 1,
      extra: { session },
    });
    const outputs = await trial.run(Object.fromEntries(trial.inputMetadata.map(sampleFeed)));
    const bad = Object.entries(outputs).find(
      ([, { data }]) => !(data as Float32Array).every(Number.isFinite),
    );
    if (bad) return { ok: false, error: `output ${bad[0]} holds values that are not finite` };
  } catch (error) {
    return { ok: false, error: String((error as TurnoutError).details?.reason ?? error) };
  }
  return { ok: true, milliseconds: performance.now() - started };
}

function sampleFeed({ name, shape }: TensorSpec): [string, PlainTensor] {
  const dims = shape.map((dim) => (typeof dim === 'number' ? dim : 1));
  const data = new Float32Array(dims.reduce((product, dim) => product * dim, 1)).fill(0.5);
  return [name, { type: 'float32', dims, data }];
}
