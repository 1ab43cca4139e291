import { resolve } from 'node:path';
import { Worker } from 'node:worker_threads';
import { TurnoutError } from '../errors.js';
import type { RunOptions } from '../experts/backend.js';
import { type Deferred, deferred } from '../experts/deferred.js';
import { withinLimits } from '../experts/limits.js';
import { revive } from '../experts/remote-error.js';
import type { PlainTensor } from '../experts/session.js';
import { guardState, protect } from '../experts/thread-guard.js';
import type { HostData } from './engine-host.js';
import type {
  EngineEvent,
  EngineInfo,
  FromEngine,
  RemoteGenerateOptions,
  RemoteResult,
  RequestKind,
  Requests,
  ThreadOptions,
} from './engine-messages.js';
import type { EngineSnapshot } from './engine-snapshot.js';
import type { Piece } from './generate.js';
import type { LayerAnswer, LayerRequest } from './layer-calls.js';

export interface OpenThreadOptions extends ThreadOptions {
  /** How far opening is: files checked, then processes started. */
  readonly onProgress?: (what: 'files' | 'processes', done: number, total: number) => void;
}

export interface RemoteGeneration extends RemoteGenerateOptions, RunOptions {
  /** Called with text as it comes. */
  readonly onPiece?: (piece: Piece) => void;
}

/**
 * A step leaves megabytes of tensors outside of V8's heap and little inside, so with V8's own 48 MB a collection of all
 * memory comes before one of the young. Small, 32 sequences take 19 % less processor time for each token, one as much as before.
 */
const YOUNG_MB = 12;

interface Pending extends Deferred<unknown> {
  readonly onPiece?: ((piece: Piece) => void) | undefined;
}

/**
 * A model in a thread of its own: for servers, and for programs whose event loop must never wait for a computation. All
 * requests share the steps of one engine. Limits are kept on this side: an aborted or late call settles at once, and the
 * thread frees its place before its next step. A thread that ends by itself fails all calls with TURNOUT_CLOSED.
 */
export class EngineThread implements AsyncDisposable {
  readonly #worker: Worker;
  readonly #pending = new Map<number, Pending>();
  readonly #ended = deferred<Error | undefined>();
  #next = 0;
  #closed: Promise<void> | undefined;
  #failure: Error | undefined;

  private constructor(
    worker: Worker,
    readonly info: EngineInfo,
  ) {
    this.#worker = worker;
    worker.on('message', (message: FromEngine) => this.#take(message));
    worker.on('error', (error) => this.#end(error));
    worker.on('exit', () => this.#end(undefined));
  }

  /** Opens the package in `folder` in a new thread. Throws what `MoeModel.open` throws. */
  static async open(folder: string, options: OpenThreadOptions = {}): Promise<EngineThread> {
    const { onProgress, ...rest } = options;
    const guard = guardState();
    const data: HostData = { folder: resolve(folder), options: rest, guard };
    const worker = new Worker(new URL('./engine-host.js', import.meta.url), {
      workerData: data,
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_MB },
    });
    protect(worker, guard, () => {});
    return new EngineThread(worker, await opened(worker, onProgress));
  }

  /** Resolves when the thread has ended, with the error that ended it where it was not closed. */
  get ended(): Promise<Error | undefined> {
    return this.#ended.promise;
  }

  /** As `generate` of a MoeModel. */
  async generate(prompt: string | readonly number[], options: RemoteGeneration = {}): Promise<RemoteResult> {
    const { signal, timeoutMs, onPiece, ...own } = options;
    const limits = { ...(signal && { signal }), ...(timeoutMs !== undefined && { timeoutMs }) };
    return this.#ask(
      'generate',
      { prompt, options: own, pieces: onPiece !== undefined },
      { ...limits, onPiece },
    );
  }

  /** As `run` of a MoeModel: token ids [B, T] or [T] -> `logits` [B, T, V] or [T, V]. */
  async score(ask: Requests['score']['ask'], limits: RunOptions = {}): Promise<Record<string, PlainTensor>> {
    return this.#ask('score', ask, limits);
  }

  /** Hidden states [T, H] through one MoE layer alone: a sequence of its own, in a call that it shares with others. */
  async layer(layer: number, request: LayerRequest, limits: RunOptions = {}): Promise<LayerAnswer> {
    const { x, logits } = request;
    return this.#ask('layer', { layer, x, ...(logits && { logits }) }, limits);
  }

  /** What engine, layers and lanes do; comes between two computations. */
  async snapshot(limits: RunOptions = {}): Promise<EngineSnapshot> {
    return this.#ask('snapshot', {}, limits);
  }

  /** Takes no new work, lets what runs end, then frees everything. Abort requests to close sooner. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    if (this.#failure) return;
    this.#worker.postMessage({ kind: 'close' });
    await this.#ended.promise;
  }

  async #ask<K extends RequestKind>(
    kind: K,
    ask: Requests[K]['ask'],
    { onPiece, ...limits }: RunOptions & Pick<Pending, 'onPiece'>,
  ): Promise<Requests[K]['answer']> {
    if (this.#closed || this.#failure) throw this.#failure ?? closed();
    const id = this.#next++;
    try {
      const answer = await withinLimits(limits, () => {
        const pending = deferred<unknown>();
        this.#pending.set(id, { ...pending, onPiece });
        this.#worker.postMessage({ id, kind, ...ask });
        return pending.promise;
      });
      return answer as Requests[K]['answer'];
    } finally {
      if (this.#pending.delete(id)) this.#worker.postMessage({ kind: 'stop', id });
    }
  }

  #take(message: FromEngine): void {
    if (message.kind === 'events') for (const event of message.events) this.#settle(event);
  }

  #settle(event: EngineEvent): void {
    const pending = this.#pending.get(event.id);
    if (!pending) return;
    if ('piece' in event) {
      this.#hand(event.piece, pending);
      return;
    }
    this.#pending.delete(event.id);
    if ('error' in event) pending.reject(revive(event.error));
    else pending.resolve(event.value);
  }

  /** What a listener throws fails its own generation, and no other. */
  #hand(piece: Piece, { onPiece, reject }: Pending): void {
    try {
      onPiece?.(piece);
    } catch (error) {
      reject(error as Error);
    }
  }

  #end(cause: Error | undefined): void {
    this.#failure ??= cause
      ? new TurnoutError('TURNOUT_CLOSED', `the engine's thread ended: ${cause.message}`, {}, { cause })
      : closed();
    this.#ended.resolve(this.#closed ? undefined : this.#failure);
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    for (const { reject } of pending) reject(this.#failure);
  }
}

/** What the thread tells when the model is open; throws why it is not. */
function opened(worker: Worker, onProgress: OpenThreadOptions['onProgress']): Promise<EngineInfo> {
  return new Promise((yes, no) => {
    const onMessage = (message: FromEngine) => {
      if (message.kind === 'progress') onProgress?.(message.what, message.done, message.total);
      if (message.kind === 'failed') no(revive(message.error));
      if (message.kind !== 'open') return;
      worker.off('message', onMessage);
      yes(message.info);
    };
    worker.on('message', onMessage);
    worker.once('error', no);
    worker.once('exit', (code) =>
      no(new TurnoutError('TURNOUT_CLOSED', `the engine's thread ended (${code})`)),
    );
  });
}

function closed(): TurnoutError {
  return new TurnoutError('TURNOUT_CLOSED', "the engine's thread is closed");
}
