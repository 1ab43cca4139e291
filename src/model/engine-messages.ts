import type { RemoteError } from '../experts/remote-error.js';
import type { PlainTensor } from '../experts/session.js';
import type { RoutingReport } from '../router/report.js';
import type { Matrix } from '../tensor.js';
import type { EngineOptions } from './engine.js';
import type { EngineSnapshot } from './engine-snapshot.js';
import type { GenerateOptions, GenerateResult, Piece } from './generate.js';
import type { LayerAnswer } from './layer-calls.js';
import type { RouterChoice } from './layer-router.js';
import type { Manifest } from './manifest.js';
import type { OpenModelOptions } from './moe-model.js';

/* What passes between an EngineThread and the thread that it stands for. */

/** The options of a model that can be handed to another thread. */
export type ThreadOptions = Omit<OpenModelOptions, 'onProgress' | 'start' | 'engine'> & {
  readonly engine?: Omit<EngineOptions, 'onStep'>;
  readonly start?: Omit<NonNullable<OpenModelOptions['start']>, 'onProgress'>;
};

/** What a generation may ask for, but for its limits: those are kept by the thread that asks. */
export type RemoteGenerateOptions = Omit<GenerateOptions, 'signal' | 'timeoutMs'> & {
  readonly router?: RouterChoice;
  /** What the recorded routing comes to, layer by layer, is told too (`reports`). */
  readonly report?: boolean;
};

/** The result of a generation in another thread. */
export interface RemoteResult extends GenerateResult {
  readonly reports?: readonly RoutingReport[];
}

/** What one layer is, for those who cannot see it. */
export interface LayerInfo {
  readonly name: string;
  readonly experts: number;
  readonly choices: number;
  readonly causal: boolean;
  /** Without one, calls of the layer alone bring their logits. */
  readonly hasGate: boolean;
}

/** What the thread tells once the model is open. */
export interface EngineInfo {
  readonly manifest: Manifest;
  readonly layers: readonly LayerInfo[];
  /** Cache blocks of `block` positions. */
  readonly cache: { readonly block: number; readonly limit: number };
}

/** Requests by kind, with their answers. */
export interface Requests {
  /** `pieces`: they are sent as they come. */
  readonly generate: {
    readonly ask: {
      readonly prompt: string | readonly number[];
      readonly options: RemoteGenerateOptions;
      readonly pieces: boolean;
    };
    readonly answer: RemoteResult;
  };
  /** Token ids [B, T] or [T] -> logits [B, T, V] or [T, V]. */
  readonly score: {
    readonly ask: {
      readonly ids: BigInt64Array;
      readonly dims: readonly number[];
      readonly router?: RouterChoice;
    };
    readonly answer: Record<string, PlainTensor>;
  };
  readonly layer: {
    readonly ask: { readonly layer: number; readonly x: Matrix; readonly logits?: Matrix };
    readonly answer: LayerAnswer;
  };
  readonly snapshot: { readonly ask: Record<never, never>; readonly answer: EngineSnapshot };
}

export type RequestKind = keyof Requests;
export type Request = {
  readonly [K in RequestKind]: { readonly id: number; readonly kind: K } & Requests[K]['ask'];
}[RequestKind];

/** To the thread. `stop`: nobody waits for the answer any more. */
export type ToEngine = Request | { readonly kind: 'stop'; readonly id: number } | { readonly kind: 'close' };

/** What became of a request, or a part of it. */
export type EngineEvent =
  | { readonly id: number; readonly piece: Piece }
  | { readonly id: number; readonly value: unknown }
  | { readonly id: number; readonly error: RemoteError };

/** From the thread: events of one turn together. */
export type FromEngine =
  | {
      readonly kind: 'progress';
      readonly what: 'files' | 'processes';
      readonly done: number;
      readonly total: number;
    }
  | { readonly kind: 'open'; readonly info: EngineInfo }
  | { readonly kind: 'failed'; readonly error: RemoteError }
  | { readonly kind: 'events'; readonly events: readonly EngineEvent[] }
  | { readonly kind: 'closed' };
