import './telemetry.js';
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
  /**
   * Whether the session keeps the memory of its largest run for itself; true where left out. Without, the sessions of a
   * process share what the allocator of the system keeps: as fast in a process of one thread, and far less for many.
   */
  readonly arena?: boolean;
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
 * Opens an ONNX file; external data is looked for beside it. Throws TURNOUT_FILE_MISSING, TURNOUT_DEVICE_UNAVAILABLE
 * where the fault is the device's, or TURNOUT_SESSION_FAILED where it is the graph's: it is damaged, or has operators
 * that the device cannot compute.
 */
export async function openSession(path: string, options: SessionOptions = {}): Promise<Session> {
  const info = await stat(path).catch(() => undefined);
  if (!info?.isFile()) {
    throw new TurnoutError('TURNOUT_FILE_MISSING', `expected an ONNX file at ${path}`, { file: path });
  }
  const { device } = options;
  const elsewhere = device !== undefined && device.provider !== 'cpu';
  if (elsewhere) checkProvider(device);
  const native = sessionOptions(options);
  try {
    return new OpenSession(path, await InferenceSession.create(path, native));
  } catch (cause) {
    if (!elsewhere) throw failed(path, 'could not be opened', cause);
    throw await failedOn(device, path, cause);
  }
}

/** onnxruntime-node leaves names that it does not know out of a list, with a warning; nothing is left out here. */
function checkProvider({ name, provider }: Device): void {
  const known = listSupportedBackends().map((backend) => backend.name);
  if (!known.includes(provider)) {
    const message = `${name}: expected an execution provider of this build of ONNX Runtime (${known.join(', ')}), got ${provider}`;
    throw new TurnoutError('TURNOUT_DEVICE_UNAVAILABLE', message, { device: name, known });
  }
  // A library that cannot be loaded is logged by the runtime as a whole, before any session.
  runtimeEnv.logLevel = 'fatal';
}

/** What goes wrong is thrown, so it is not written to stderr as well. */
const SILENT = 4;

function sessionOptions({
  residency,
  device,
  profile,
  arena = true,
}: SessionOptions): InferenceSession.SessionOptions {
  const elsewhere = device !== undefined && device.provider !== 'cpu';
  return {
    ...(elsewhere ? { executionProviders: [providerOptions(device, process.env)] } : {}),
    ...(profile === undefined ? {} : { enableProfiling: true, profileFilePrefix: profile }),
    intraOpNumThreads: 1,
    interOpNumThreads: 1,
    executionMode: 'sequential',
    logSeverityLevel: SILENT,
    enableCpuMemArena: arena,
    extra: {
      session: {
        intra_op: { allow_spinning: '0' },
        ...(residency === 'mapped' ? { disable_prepacking: '1' } : {}),
        ...(elsewhere ? { disable_cpu_ep_fallback: '1' } : {}),
      },
    },
  };
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

function failed(file: string, what: string, cause: unknown, details = {}): TurnoutError {
  const reason = reasonOf(cause);
  const message = `${file} ${what}: ${reason}`;
  return new TurnoutError('TURNOUT_SESSION_FAILED', message, { file, reason, ...details }, { cause });
}

/** Whose fault it was: a graph that the CPU cannot open either is damaged; otherwise it was the device's. */
async function failedOn({ name, provider }: Device, file: string, cause: unknown): Promise<TurnoutError> {
  const reason = reasonOf(cause);
  if (reason.includes('fallback to CPU EP has been explicitly disabled')) {
    const what = `could not be opened on ${name}: it has operators that ${provider} cannot compute here`;
    return failed(file, what, cause, { device: name });
  }
  const onCpu = await openSession(file, { residency: 'mapped' }).catch((error: TurnoutError) => error);
  if (onCpu instanceof TurnoutError) return onCpu;
  await onCpu.release();
  const details = { device: name, file, reason };
  return new TurnoutError('TURNOUT_DEVICE_UNAVAILABLE', `${name}: ${reason}`, details, { cause });
}

/** What ONNX Runtime says, in one line, without the place in its sources, the C++ condition and the host's name. */
function reasonOf(cause: unknown): string {
  const text = (cause instanceof Error ? cause.message : String(cause)).replace(/\s+/g, ' ').trim();
  return text
    .replace(/^\S*[\\/]onnxruntime[\\/]core[\\/].*?(?: was false\. |(?=CUDA failure))/, '')
    .replace(/ ; GPU=.*$/, '');
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
