import { join } from 'node:path';
import { TurnoutError } from '../errors.js';
import type { ExpertBackend } from '../experts/backend.js';
import { openSession, type PlainTensor, type Session } from '../experts/session.js';
import { type Gate, openGate } from '../gate.js';
import { MoeLayer } from '../moe-layer.js';
import type { Routing } from '../router/routing.js';
import { joinRoutings } from '../router/slice.js';
import { Engine, type EngineOptions } from './engine.js';
import { type GenerateOptions, Generation, promptTokens } from './generate.js';
import { layerOptions, type RouterChoice, routerOver } from './layer-router.js';
import type { Manifest } from './manifest.js';
import { type BackendOptions, expertPaths, openBackend, segmentPaths, sharedPaths } from './open.js';
import { type Package, readPackage, type VerifyOptions, verifyPackage } from './package.js';
import { type ModelTimes, Program } from './program.js';
import type { Sequence } from './sequence.js';
import { layerExperts, type ModelUpdate, updateBackend } from './update.js';

export interface OpenModelOptions extends BackendOptions, VerifyOptions {
  /** Another rule for all layers, or options over the package's own. */
  readonly router?: RouterChoice;
  readonly engine?: EngineOptions;
}

/** Tensors by name, as onnxruntime's InferenceSession takes and gives them. */
export type Feeds = Readonly<Record<string, PlainTensor>>;

/** Another rule than that of the model, for one call. */
export interface Rerouted {
  readonly router?: RouterChoice;
}

export interface ScoreOptions extends Rerouted {
  readonly signal?: AbortSignal;
}

export interface Trace {
  readonly outputs: Record<string, PlainTensor>;
  /** [B][L]: for each sequence of the batch, the routing of its tokens in each layer. */
  readonly routing: readonly (readonly Routing[])[];
  /** [B] milliseconds of the steps that each sequence took part in. */
  readonly times: readonly ModelTimes[];
}

/** A whole model from a package: scoring with `run` and `trace`, text with `generate`. */
export class MoeModel implements AsyncDisposable {
  readonly inputNames = ['input_ids'] as const;
  readonly outputNames = ['logits'] as const;
  readonly manifest: Manifest;
  /** What `generate` uses: generations that run at the same time share its steps. */
  readonly engine: Engine;
  readonly #open: OpenParts;
  readonly #options: EngineOptions;
  #closed: Promise<void> | undefined;

  private constructor(
    readonly program: Program,
    open: OpenParts,
    options: OpenModelOptions,
  ) {
    this.manifest = program.manifest;
    this.#options = options.engine ?? {};
    this.engine = new Engine(program, this.#options);
    this.#open = open;
  }

  /** Opens the package in `folder`. Every file is checked before anything is run (see `verifyPackage`). */
  static async open(folder: string, options: OpenModelOptions = {}): Promise<MoeModel> {
    const pkg = await readPackage(folder);
    await verifyPackage(pkg, options);
    const { program, parts } = await openProgram(pkg, options);
    return new MoeModel(program, parts, options);
  }

  get backend(): ExpertBackend {
    this.#check();
    return this.#open.backend!;
  }

  /**
   * input_ids int64 [B,T] or [T] -> logits float32 [B,T,V] or [T,V]; each row of the batch is a sequence of its own. Rules that
   * are not causal route each sequence as a whole; one with scope `call` takes a single sequence (TURNOUT_ROUTER_NOT_CAUSAL).
   */
  async run(feeds: Feeds, options: ScoreOptions = {}): Promise<Record<string, PlainTensor>> {
    return (await this.#score(feeds, options, false)).outputs;
  }

  /** As `run`, with the routing of every token in every layer. */
  async trace(feeds: Feeds, options: ScoreOptions = {}): Promise<Trace> {
    return this.#score(feeds, options, true);
  }

  /**
   * Continues a text (the begin token is put before it) or token ids. Throws what the options get wrong at once; iterate
   * the result for text as it comes. With `maxTokens` 0 the prompt is scored alone, by rules that are not causal too. Those with a `router` of their own do not share steps with others.
   */
  generate(prompt: string | readonly number[], options: GenerateOptions & Rerouted = {}): Generation {
    this.#check();
    const { router, ...own } = options;
    const tokens = promptTokens(this.manifest, prompt);
    const scores = options.maxTokens === 0;
    const engine = scores
      ? this.#scoringEngine([tokens], router)
      : router
        ? this.#engineOf(router)
        : this.engine;
    return new Generation(engine, tokens, own);
  }

  /**
   * Applies another placement, new versions of experts, or both, while generations go on: none is lost, each layer call
   * computes with what was there when it began, and those that begin after this has resolved compute with the new. Of
   * the backend `processes` alone. Placements number experts as the backend does: layer by layer, the routed ones first,
   * then the shared ones. Throws TURNOUT_OPTIONS_INVALID, TURNOUT_EXPERT_CHANGED where a file has another checksum, and
   * what `open` throws for experts and devices; then everything stays as it was.
   */
  async update(update: ModelUpdate): Promise<void> {
    await updateBackend(this.backend, update, layerExperts(this.manifest));
  }

  /** Takes no new work, lets running generations end, then frees sessions and lanes. Abort generations to close sooner. */
  close(): Promise<void> {
    this.#closed ??= this.engine.close().then(() => closeAll(this.#open));
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #score(feeds: Feeds, { router, signal }: ScoreOptions, record: boolean): Promise<Trace> {
    this.#check();
    const { rows, dims } = readIds(feeds);
    const engine = this.#scoringEngine(rows, router);
    const request = { maxTokens: 0, logits: 'all', record, ...(signal && { signal }) } as const;
    const sequences: Sequence[] = [];
    let logits: Float32Array[];
    try {
      for (const tokens of rows) sequences.push(engine.add({ ...request, tokens }));
      void engine.drive();
      logits = await Promise.all(sequences.map(collectLogits));
    } finally {
      // Where one is refused or fails, nobody reads the others.
      for (const sequence of sequences) engine.stop(sequence);
    }
    const vocabulary = this.manifest.sizes.vocabulary;
    const data = new Float32Array(dims.reduce((product, dim) => product * dim, 1) * vocabulary);
    logits.forEach((part, b) => {
      data.set(part, b * (dims.at(-1) ?? 0) * vocabulary);
    });
    return {
      outputs: { logits: { type: 'float32', dims: [...dims, vocabulary], data } },
      routing: sequences.map((sequence) => sequence.recorded.map(joinRoutings)),
      times: sequences.map((sequence) => sequence.times),
    };
  }

  /** The engine that generations use, or one with another rule. */
  #engineOf(choice: RouterChoice): Engine {
    const { layers } = this.manifest;
    const routers = layers.map((layer) => routerOver(layerOptions(layer, choice), layer.experts.length));
    return new Engine(this.program.withRouters(routers), this.#options);
  }

  /**
   * Where `rows` are scored: a rule that is not causal sees each sequence whole, so it has an engine of its own. Throws
   * TURNOUT_ROUTER_NOT_CAUSAL for several sequences that would compete.
   */
  #scoringEngine(rows: readonly (readonly number[])[], choice: RouterChoice | undefined): Engine {
    const engine = choice ? this.#engineOf(choice) : this.engine;
    const { layers } = engine.program;
    const open = layers.find(({ router }) => !router.isolated);
    if (open && rows.length > 1) {
      const message = `${open.name}: ${open.router.notCausalBecause}; expected one sequence, got ${rows.length}`;
      throw new TurnoutError('TURNOUT_ROUTER_NOT_CAUSAL', message, { sequences: rows.length });
    }
    if (layers.every(({ router }) => router.causal)) return engine;
    const chunkRows = Math.max(1, ...rows.map(({ length }) => length));
    return new Engine(engine.program, { ...this.#options, chunkRows });
  }

  #check(): void {
    if (this.#closed) throw new TurnoutError('TURNOUT_CLOSED', 'the model is closed');
  }
}

async function collectLogits(sequence: Sequence): Promise<Float32Array> {
  const parts: Float32Array[] = [];
  for await (const event of sequence) if (event.kind === 'logits') parts.push(event.logits.data);
  const joined = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

/** The one feed `input_ids`, int64 (or int32) [B,T] or [T], as rows of ids. */
function readIds(feeds: Feeds): { rows: number[][]; dims: readonly number[] } {
  const names = Object.keys(feeds);
  const ids = feeds.input_ids;
  if (!ids || names.length !== 1) {
    throw new TurnoutError(
      'TURNOUT_INPUT_INVALID',
      `expected the feed input_ids alone, got ${names.join(', ') || 'none'}`,
    );
  }
  const { type, dims, data } = ids;
  const size = dims.reduce((product, dim) => product * dim, 1);
  if ((type !== 'int64' && type !== 'int32') || dims.length < 1 || dims.length > 2 || size !== data.length) {
    throw new TurnoutError(
      'TURNOUT_SHAPE_MISMATCH',
      `input_ids: expected int64 [B, T] or [T], got ${type} [${dims.join(', ')}] with ${data.length} values`,
    );
  }
  const values = Array.from(data as Int32Array, Number);
  const length = dims.at(-1)!;
  const count = length === 0 ? 0 : dims.length === 2 ? dims[0]! : 1;
  return { rows: Array.from({ length: count }, (_, b) => values.slice(b * length, (b + 1) * length)), dims };
}

interface OpenParts {
  readonly sessions: Map<string, Session>;
  readonly gates: Gate[];
  backend?: ExpertBackend;
}

async function openProgram(
  pkg: Package,
  options: OpenModelOptions,
): Promise<{ program: Program; parts: OpenParts }> {
  const parts: OpenParts = { sessions: new Map(), gates: [] };
  try {
    for (const [name, path] of segmentPaths(pkg.folder, pkg.manifest))
      parts.sessions.set(name, await openSession(path));
    const layers = await openLayers(pkg, options, parts);
    return { program: new Program(pkg.manifest, layers, parts.sessions), parts };
  } catch (error) {
    await closeAll(parts);
    throw error;
  }
}

/** One backend holds the experts of all layers, layer by layer, routed ones before shared ones. */
async function openLayers(pkg: Package, options: OpenModelOptions, parts: OpenParts): Promise<MoeLayer[]> {
  const { layers, sizes } = pkg.manifest;
  const routers = layers.map((layer) =>
    routerOver(layerOptions(layer, options.router), layer.experts.length),
  );
  const paths = layers.map((layer) => ({ own: expertPaths(pkg, layer), shared: sharedPaths(pkg, layer) }));
  const backend = await openBackend(
    paths.flatMap(({ own, shared }) => [...own, ...shared]),
    sizes.hidden,
    options,
  );
  parts.backend = backend;
  const opened: MoeLayer[] = [];
  let first = 0;
  for (const [index, layer] of layers.entries()) {
    const { own, shared } = paths[index]!;
    const gate = await layerGate(pkg, index, routers[index]!.experts, parts);
    const firstExpert = first;
    opened.push(
      new MoeLayer({
        name: layer.name,
        index,
        router: routers[index]!,
        backend,
        firstExpert,
        shared: shared.map((_, i) => firstExpert + own.length + i),
        ...(gate ? { gate } : {}),
      }),
    );
    first += own.length + shared.length;
  }
  return opened;
}

async function layerGate(
  pkg: Package,
  index: number,
  experts: number,
  parts: OpenParts,
): Promise<Gate | undefined> {
  const { gate } = pkg.manifest.layers[index]!;
  if (!gate || !('model' in gate)) return undefined;
  const opened = await openGate(join(pkg.folder, gate.model), pkg.manifest.sizes.hidden, experts);
  parts.gates.push(opened);
  return opened;
}

async function closeAll({ sessions, gates, backend }: OpenParts): Promise<void> {
  const all = [
    ...[...sessions.values()].map((session) => session.release()),
    ...gates.map((gate) => gate.close()),
  ];
  await Promise.all([...all, backend?.close()]);
}
