import { dirname, join, resolve } from 'node:path';
import { TurnoutError } from '../errors.js';
import { openAuto } from '../experts/auto.js';
import type { ExpertBackend, ExpertFile, Residency } from '../experts/backend.js';
import { openInline } from '../experts/inline.js';
import { checkUpdate, openProcesses, type ProcessesOptions } from '../experts/processes.js';
import { openThreads } from '../experts/threads.js';
import { type Gate, openGate } from '../gate.js';
import { type LayerParts, MoeLayer } from '../moe-layer.js';
import { type RouterOptions, withShortcuts } from '../router/options.js';
import { presetOptions } from '../router/presets.js';
import type { Router } from '../router/routing.js';
import { layerOptions, type RouterChoice, routerOver } from './layer-router.js';
import type { LayerEntry, Manifest } from './manifest.js';
import { readOnnxFile } from './onnx.js';
import { type Package, readPackage, type VerifyOptions, verifyPackage } from './package.js';
import { type LayerUpdate, updateBackend } from './update.js';

export const BACKENDS = ['auto', 'inline', 'threads', 'processes'] as const;
export type BackendName = (typeof BACKENDS)[number];

/** Where and how experts run. Options of one backend are refused by the others. */
export interface BackendOptions extends Omit<ProcessesOptions, 'hidden' | 'program' | 'replicas'> {
  /** `auto` where left out: `threads`, and small calls `inline` where that is faster. */
  readonly backend?: BackendName;
  /** Threads of `threads` and `auto`; the number of cores where left out. */
  readonly lanes?: number;
  /** How many threads of `threads` and `auto` hold each expert (all where left out), or devices of `processes` (1 where left out). */
  readonly replicas?: number;
  /** `packed` where left out. */
  readonly residency?: Residency;
}

type OwnOption = Exclude<keyof BackendOptions, 'backend' | 'residency'>;

/** The options of each backend that not all take. */
const OWN: Readonly<Record<BackendName, readonly OwnOption[]>> = {
  auto: ['lanes', 'replicas'],
  inline: [],
  threads: ['lanes', 'replicas'],
  processes: [
    ...(['devices', 'oneProcessPer', 'replicas', 'placement'] as const),
    ...(['onLostExpert', 'start', 'limits', 'profile'] as const),
  ],
};

/** Opens a backend over expert files. Throws what the backend throws, and TURNOUT_OPTIONS_INVALID for a name that is none. */
export async function openBackend(
  paths: readonly string[],
  hidden: number | undefined,
  options: BackendOptions = {},
): Promise<ExpertBackend> {
  const { backend = 'auto', residency = 'packed' } = options;
  checkFit(backend, options);
  const files = paths.map((path) => ({ path: resolve(path) }));
  const chosen = OWN[backend].filter((key) => options[key] !== undefined);
  const own = Object.fromEntries(chosen.map((key) => [key, options[key]]));
  const common = { residency, ...(hidden === undefined ? {} : { hidden }), ...own };
  switch (backend) {
    case 'auto':
      return openAuto(await Promise.all(files.map(withData)), common);
    case 'inline':
      return openInline(files, common);
    case 'threads':
      return openThreads(files, common);
    case 'processes':
      return openProcesses(await Promise.all(files.map(withData)), common);
  }
}

/** Throws TURNOUT_OPTIONS_INVALID for a backend that is none, and for options that are not of the backend or not together. */
function checkFit(backend: BackendName, options: BackendOptions): void {
  if (!BACKENDS.includes(backend)) {
    const message = `backend: expected ${BACKENDS.join(' or ')}, got ${backend}`;
    throw new TurnoutError('TURNOUT_OPTIONS_INVALID', message);
  }
  const others = Object.values(OWN).flat();
  const stray = others.find((key) => !OWN[backend].includes(key) && options[key] !== undefined);
  if (stray !== undefined) {
    const message = `${stray}: not an option of the backend ${backend}`;
    throw new TurnoutError('TURNOUT_OPTIONS_INVALID', message, { option: stray, backend });
  }
}

/** An expert file with its external data, so that all processes open the same files. */
async function withData({ path }: ExpertFile): Promise<ExpertFile> {
  const { initializers } = await readOnnxFile(path);
  const data = initializers.flatMap(({ external }) =>
    external ? [join(dirname(path), external.location)] : [],
  );
  return { path, data: [...new Set(data)] };
}

export type LayerSource =
  /** One layer of a package. */
  | { readonly package: string; readonly layer: number; readonly router?: RouterChoice }
  /** Your own files: gate x [n,H] -> logits [n,E], experts x [n,H] -> y [n,H]. */
  | {
      readonly gate: string;
      readonly experts: readonly string[];
      readonly shared?: readonly string[];
      readonly router: RouterChoice | RouterOptions;
    };

/** A layer with a gate and a backend of its own; `close` frees both. */
export class OpenLayer extends MoeLayer implements AsyncDisposable {
  /** What runs its experts, the routed ones first, then the shared ones. */
  readonly backend: ExpertBackend;
  readonly #shared: number;
  readonly #close: () => Promise<void>;

  constructor(parts: LayerParts, close: () => Promise<void>) {
    super(parts);
    this.backend = parts.backend;
    this.#shared = parts.shared?.length ?? 0;
    this.#close = close;
  }

  /** As `update` of a MoeModel, for this layer. */
  async update(update: LayerUpdate): Promise<void> {
    const { experts = [], ...placement } = checkUpdate(update);
    const own = { first: 0, experts: this.router.computed, shared: this.#shared };
    const versions = experts.map((version) => ({ ...version, layer: 0 }));
    await updateBackend(this.backend, { ...placement, experts: versions }, [own]);
  }

  close(): Promise<void> {
    return this.#close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#close();
  }
}

/**
 * Opens one MoE layer, from a package or from your own files.
 * Throws TURNOUT_PACKAGE_*, TURNOUT_OPTIONS_INVALID, TURNOUT_FILE_MISSING or TURNOUT_SHAPE_MISMATCH before anything is run.
 */
export async function openMoeLayer(
  source: LayerSource,
  options: BackendOptions & VerifyOptions = {},
): Promise<OpenLayer> {
  const found = 'package' in source ? await fromPackage(source, options) : fromFiles(source);
  const { files, shared, router, hidden, name, index } = found;
  const backend = await openBackend([...files, ...shared], hidden, options);
  let gate: Gate | undefined;
  try {
    if (found.gate !== undefined) gate = await openGate(found.gate, backend.hidden, router.experts);
  } catch (error) {
    await backend.close();
    throw error;
  }
  const parts = {
    name,
    index,
    router,
    backend,
    shared: shared.map((_, i) => files.length + i),
    ...(gate ? { gate } : {}),
  };
  return new OpenLayer(parts, async () => {
    await Promise.all([backend.close(), gate?.close()]);
  });
}

interface FoundLayer {
  readonly name: string;
  readonly index: number;
  readonly gate?: string;
  readonly files: readonly string[];
  readonly shared: readonly string[];
  readonly router: Router;
  readonly hidden?: number;
}

async function fromPackage(
  source: Extract<LayerSource, { package: string }>,
  options: VerifyOptions,
): Promise<FoundLayer> {
  const pkg = await readPackage(source.package);
  await verifyPackage(pkg, options);
  const layer = pkg.manifest.layers[source.layer];
  if (!layer) {
    const message = `layer: expected 0 to ${pkg.manifest.layers.length - 1}, got ${source.layer}`;
    throw new TurnoutError('TURNOUT_OPTIONS_INVALID', message, { layer: source.layer });
  }
  const { hidden, experts } = pkg.manifest.sizes;
  return {
    name: layer.name,
    index: source.layer,
    files: expertPaths(pkg, layer),
    shared: sharedPaths(pkg, layer),
    router: routerOver(layerOptions(layer, source.router), experts),
    hidden,
    ...(layer.gate && 'model' in layer.gate ? { gate: join(pkg.folder, layer.gate.model) } : {}),
  };
}

function fromFiles(source: Exclude<LayerSource, { package: string }>): FoundLayer {
  const { router, gate, experts, shared = [] } = source;
  const options =
    'algorithm' in router
      ? router
      : withShortcuts(presetOptions(required(router.preset), router.options), router);
  return {
    name: 'layer',
    index: 0,
    gate,
    files: experts,
    shared,
    router: routerOver(options, experts.length),
  };
}

function required(preset: string | undefined): string {
  if (preset !== undefined) return preset;
  throw new TurnoutError('TURNOUT_OPTIONS_INVALID', 'router: expected a preset, or the options of a rule');
}

export function expertPaths(pkg: Package, layer: LayerEntry): string[] {
  return layer.experts.map((expert) => join(pkg.folder, expert.model));
}

export function sharedPaths(pkg: Package, layer: LayerEntry): string[] {
  return (layer.shared ?? []).map((expert) => join(pkg.folder, expert.model));
}

/** The files of the trunk segments of a package, by their name in the manifest. */
export function segmentPaths(folder: string, manifest: Manifest): Map<string, string> {
  const models = manifest.program.steps.flatMap((step) => (step.kind === 'graph' ? [step.model] : []));
  return new Map(models.map((model) => [model, join(folder, model)]));
}
