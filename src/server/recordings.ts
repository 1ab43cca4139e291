import { TurnoutError } from '../errors.js';
import type { LayerInfo } from '../model/engine-messages.js';
import type { GenerateResult } from '../model/generate.js';
import type { Routing } from '../router/routing.js';
import { base64, routingTable } from './routing-table.js';

/** Bytes of all recordings of one key; the one that runs stops itself there. */
const MAX_BYTES = 256 * 1024 * 1024;
/** Recordings that one key may keep. */
const MAX_KEPT = 4;

/** The requests of one key, token by token. A router that is given the logits decides again as it did. */
export interface Recording {
  readonly format: 'turnout-recording';
  readonly version: 1;
  readonly model: string;
  /** Milliseconds since 1970. */
  readonly startedAt: number;
  readonly layers: readonly LayerInfo[];
  readonly requests: readonly RecordedRequest[];
}

/** One sequence: T tokens that passed the layers. Arrays are little-endian numbers in base64. */
export interface RecordedRequest {
  readonly tokens: number;
  readonly promptTokens: number;
  /** int32 [T] */
  readonly ids: string;
  readonly layers: readonly RecordedLayer[];
}

export interface RecordedLayer {
  /** float32 [T, E] */
  readonly logits: string;
  /** int32 [T, K], -1 for none; float32 [T, K]; uint8 [T, K], 0 kept, else why not. */
  readonly experts: string;
  readonly weights: string;
  readonly drops: string;
}

/** What the owner of a recording is told of it. */
export interface RecordingStatus {
  readonly id: string;
  /** `full`: it reached the most that is kept, and stopped. */
  readonly state: 'recording' | 'stopped' | 'full';
  readonly startedAt: number;
  readonly requests: number;
  readonly tokens: number;
  readonly bytes: number;
}

interface Kept {
  readonly id: string;
  readonly key: number;
  readonly startedAt: number;
  readonly requests: RecordedRequest[];
  state: RecordingStatus['state'];
  tokens: number;
  bytes: number;
}

/**
 * Recordings of routing per token. The experts of a token give its text away (arXiv 2602.04105), so a recording is as
 * secret as prompts are: nobody records without a key, and a recording holds the requests of its own key alone.
 */
export class Recordings {
  readonly #model: string;
  readonly #layers: readonly LayerInfo[];
  readonly #maxBytes: number;
  #kept: Kept[] = [];

  constructor(model: string, layers: readonly LayerInfo[], maxBytes = MAX_BYTES) {
    this.#maxBytes = maxBytes;
    this.#model = model;
    this.#layers = layers;
  }

  /** Throws TURNOUT_FORBIDDEN without a key, and while another of the key runs or too many are kept. */
  start(key: number | undefined): RecordingStatus {
    const own = this.#of(key);
    if (own.some(({ state }) => state === 'recording'))
      throw forbidden('a recording of this key runs already; stop it first');
    if (own.length >= MAX_KEPT)
      throw forbidden(`expected at most ${MAX_KEPT} recordings of a key; delete one first`);
    const kept: Kept = {
      id: crypto.randomUUID(),
      key: key!,
      startedAt: Date.now(),
      requests: [],
      state: 'recording',
      tokens: 0,
      bytes: 0,
    };
    this.#kept.push(kept);
    return statusOf(kept);
  }

  list(key: number | undefined): RecordingStatus[] {
    return this.#of(key).map(statusOf);
  }

  stop(key: number | undefined, id: string): RecordingStatus {
    const kept = this.#find(key, id);
    if (kept.state === 'recording') kept.state = 'stopped';
    return statusOf(kept);
  }

  remove(key: number | undefined, id: string): void {
    const kept = this.#find(key, id);
    this.#kept = this.#kept.filter((other) => other !== kept);
  }

  /** The JSON of a Recording, request by request: whole it would hold up the thread that answers. */
  read(key: number | undefined, id: string): Iterable<string> {
    const { startedAt, requests } = this.#find(key, id);
    const format = { format: 'turnout-recording', version: 1 } as const;
    return json({ ...format, model: this.#model, startedAt, layers: this.#layers }, [...requests]);
  }

  /** Whether the routing of requests with this key is to be kept. */
  wants(key: number | undefined): boolean {
    return this.#running(key) !== undefined;
  }

  /** Takes a request in that was made with this key, where it is recorded. */
  add(key: number | undefined, { prompt, tokens, routing }: GenerateResult): void {
    const kept = this.#running(key);
    if (!kept || routing.length === 0) return;
    const passed = routing[0]!.tokens;
    const ids = Int32Array.from([...prompt, ...tokens].slice(0, passed));
    const request = {
      tokens: passed,
      promptTokens: prompt.length,
      ids: base64(ids),
      layers: routing.map(recordedLayer),
    };
    const bytes = request.layers.reduce((sum, layer) => sum + bytesOf(layer), request.ids.length);
    const held = this.#of(key).reduce((sum, own) => sum + own.bytes, 0);
    if (held + bytes > this.#maxBytes) {
      kept.state = 'full';
      return;
    }
    kept.requests.push(request);
    kept.tokens += passed;
    kept.bytes += bytes;
  }

  #running(key: number | undefined): Kept | undefined {
    return key === undefined
      ? undefined
      : this.#kept.find((kept) => kept.key === key && kept.state === 'recording');
  }

  #of(key: number | undefined): Kept[] {
    if (key === undefined) {
      throw forbidden('a recording is as telling as the prompts: it needs a server with API keys');
    }
    return this.#kept.filter((kept) => kept.key === key);
  }

  #find(key: number | undefined, id: string): Kept {
    const kept = this.#of(key).find((own) => own.id === id);
    if (kept) return kept;
    throw new TurnoutError('TURNOUT_NOT_FOUND', 'there is no recording of this id and key');
  }
}

function* json(head: Omit<Recording, 'requests'>, requests: readonly RecordedRequest[]): Generator<string> {
  yield `${JSON.stringify(head).slice(0, -1)},"requests":[`;
  for (const [i, request] of requests.entries()) yield (i === 0 ? '' : ',') + JSON.stringify(request);
  yield ']}';
}

function recordedLayer(routing: Routing): RecordedLayer {
  const { experts, weights, drops } = routingTable([routing]);
  return {
    logits: base64(routing.logits.data),
    experts: base64(experts),
    weights: base64(weights),
    drops: base64(drops),
  };
}

function bytesOf({ logits, experts, weights, drops }: RecordedLayer): number {
  return logits.length + experts.length + weights.length + drops.length;
}

function statusOf({ id, state, startedAt, requests, tokens, bytes }: Kept): RecordingStatus {
  return { id, state, startedAt, requests: requests.length, tokens, bytes };
}

function forbidden(message: string): TurnoutError {
  return new TurnoutError('TURNOUT_FORBIDDEN', message);
}
