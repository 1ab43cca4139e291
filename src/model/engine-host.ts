import { subscribe } from 'node:diagnostics_channel';
import { parentPort, type Transferable, workerData } from 'node:worker_threads';
import { TurnoutError } from '../errors.js';
import { describe } from '../experts/remote-error.js';
import { ending, type GuardState, hold, isEnding } from '../experts/thread-guard.js';
import type { LayerEvent } from '../moe-layer.js';
import { LoadHistory } from '../router/load-history.js';
import { reportRouting } from '../router/report.js';
import type {
  EngineEvent,
  FromEngine,
  Request,
  Requests,
  ThreadOptions,
  ToEngine,
} from './engine-messages.js';
import { takeSnapshot } from './engine-snapshot.js';
import type { Piece } from './generate.js';
import { LayerCalls } from './layer-calls.js';
import { MoeModel } from './moe-model.js';

/* What runs in the thread of an EngineThread: a model, and the requests that come for it. */

/** The `workerData` of the thread. */
export interface HostData {
  readonly folder: string;
  readonly options: ThreadOptions;
  readonly guard: GuardState;
}

const { folder, options, guard } = workerData as HostData;
const port = parentPort!;
const send = (message: FromEngine, transfer: Transferable[] = []) => port.postMessage(message, transfer);

/** Collects what happens until the end of one turn, so that a step of many sequences is one message, sent before the next step begins. */
class Outbox {
  #events: EngineEvent[] = [];
  #transfer: Transferable[] = [];

  add(event: EngineEvent, transfer: readonly Transferable[] = []): void {
    // Not setImmediate: the model's next session is run there, ahead of it.
    if (this.#events.length === 0) process.nextTick(() => this.flush());
    this.#events.push(event);
    this.#transfer.push(...transfer);
  }

  /** Ahead of the others in its message: a client waits longest for the first of its text. */
  addFirst(event: EngineEvent): void {
    this.add(event);
    this.#events.unshift(this.#events.pop()!);
  }

  flush(): void {
    if (this.#events.length === 0) return;
    const [events, transfer] = [this.#events, this.#transfer];
    this.#events = [];
    this.#transfer = [];
    send({ kind: 'events', events }, transfer);
  }
}

/** Keeps the thread from being ended while anything in it computes, also for nobody any more. */
class Work {
  #count = 0;
  #idle: (() => void) | undefined;

  change(more: boolean): void {
    this.#count += more ? 1 : -1;
    hold(guard, this.#count > 0);
    if (this.#count === 0) this.#idle?.();
  }

  async idle(): Promise<void> {
    if (this.#count === 0) return;
    await new Promise<void>((resolve) => {
      this.#idle = resolve;
    });
  }
}

class Host {
  readonly #work: Work;
  readonly #model: MoeModel;
  readonly #layers: readonly LayerCalls[];
  readonly #history = new LoadHistory();
  readonly #outbox = new Outbox();
  /** What stops each request under way. */
  readonly #active = new Map<number, AbortController>();

  constructor(model: MoeModel, work: Work) {
    this.#model = model;
    this.#work = work;
    this.#layers = model.program.layers.map((layer) => new LayerCalls(layer));
    subscribe('turnout:layer', (message) => {
      // Calls under another rule than the model's are one request's alone.
      const { layer, router } = message as LayerEvent;
      if (router === model.program.layers[layer]?.router) this.#history.record(message);
    });
  }

  async take(request: Request): Promise<void> {
    const { id } = request;
    const stop = new AbortController();
    this.#active.set(id, stop);
    this.#work.change(true);
    try {
      const [value, transfer] = await this.#answer(request, stop.signal);
      if (!stop.signal.aborted) this.#outbox.add({ id, value }, transfer);
    } catch (error) {
      if (!stop.signal.aborted) this.#outbox.add({ id, error: describe(error) });
    } finally {
      this.#active.delete(id);
      this.#work.change(false);
    }
  }

  stop(id: number): void {
    this.#active.get(id)?.abort();
  }

  /** Layers called alone and engines under another rule are not the model's own to wait for. */
  async close(): Promise<void> {
    await this.#work.idle();
    await this.#model.close();
    this.#outbox.flush();
  }

  stopAll(): void {
    for (const stop of this.#active.values()) stop.abort();
  }

  async #answer(request: Request, signal: AbortSignal): Promise<[unknown, Transferable[]]> {
    switch (request.kind) {
      case 'generate':
        return [await this.#generate(request, signal), []];
      case 'score':
        return this.#score(request, signal);
      case 'layer': {
        const { layer, x, logits } = request;
        const calls = this.#layers[layer];
        if (!calls) throw noLayer(layer, this.#layers.length);
        const answer = await calls.run({ x, signal, ...(logits && { logits }) });
        return [answer, [answer.y.data.buffer as ArrayBuffer]];
      }
      case 'snapshot':
        return [takeSnapshot(this.#model, this.#history), []];
    }
  }

  async #generate(
    { id, prompt, options, pieces }: Request & { kind: 'generate' },
    signal: AbortSignal,
  ): Promise<Requests['generate']['answer']> {
    const { report, ...own } = options;
    const generation = this.#model.generate(prompt, { ...own, signal });
    if (pieces) await this.#sendPieces(id, generation);
    const result = await generation.result();
    return report ? { ...result, reports: result.routing.map((routing) => reportRouting(routing)) } : result;
  }

  async #sendPieces(id: number, pieces: AsyncIterable<Piece>): Promise<void> {
    let first = true;
    for await (const piece of pieces) {
      if (first) this.#outbox.addFirst({ id, piece });
      else this.#outbox.add({ id, piece });
      first = false;
    }
  }

  async #score(
    { ids, dims, router }: Request & { kind: 'score' },
    signal: AbortSignal,
  ): Promise<[Requests['score']['answer'], Transferable[]]> {
    const feeds = { input_ids: { type: 'int64', dims, data: ids } } as const;
    const outputs = await this.#model.run(feeds, { signal, ...(router && { router }) });
    return [outputs, [outputs.logits!.data.buffer as ArrayBuffer]];
  }
}

function noLayer(layer: number, layers: number): TurnoutError {
  return new TurnoutError('TURNOUT_INPUT_INVALID', `expected a layer from 0 to ${layers - 1}, got ${layer}`);
}

async function open(work: Work): Promise<void> {
  const progress = (what: 'files' | 'processes') => (done: number, total: number) => {
    if (isEnding(guard)) throw new TurnoutError('TURNOUT_CLOSED', 'the engine was ended while it opened');
    send({ kind: 'progress', what, done, total });
  };
  const model = await MoeModel.open(folder, {
    ...options,
    engine: { ...options.engine, onStep: (computes) => work.change(computes) },
    onProgress: progress('files'),
    ...(options.backend === 'processes' && {
      start: { ...options.start, onProgress: progress('processes') },
    }),
  });
  const host = new Host(model, work);
  port.on('message', (message: ToEngine) => {
    if (message.kind === 'stop') host.stop(message.id);
    else if (message.kind === 'close') void host.close().then(() => leave());
    else void host.take(message);
  });
  void ending(guard).then(() => host.stopAll());
  const { block, limit } = model.engine.stats().cache;
  const layers = model.program.layers.map(({ name, router, hasGate }) => {
    const { experts, choices, causal } = router;
    return { name, experts, choices, causal, hasGate };
  });
  send({ kind: 'open', info: { manifest: model.manifest, layers, cache: { block, limit } } });
}

function leave(): void {
  send({ kind: 'closed' });
  port.close();
}

const work = new Work();
work.change(true);
open(work)
  .catch((error: unknown) => {
    send({ kind: 'failed', error: describe(error) });
    port.close();
  })
  .finally(() => work.change(false));
