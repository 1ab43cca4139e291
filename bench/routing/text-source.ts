import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { TurnoutError } from '../../src/errors.js';
import { layerOptions, routerOver } from '../../src/model/layer-router.js';
import type { Manifest } from '../../src/model/manifest.js';
import { MoeModel, type OpenModelOptions } from '../../src/model/moe-model.js';
import { readPackage } from '../../src/model/package.js';
import type { RouterOptions } from '../../src/router/options.js';
import type { Router } from '../../src/router/routing.js';
import { costsOf } from './cost.js';
import { hashOf } from './hash.js';
import { scoreCall, type TextCall, type Window, warmCall } from './score-call.js';
import type { Source } from './source.js';

/** How a text is cut. */
export interface Cut {
  /** Bytes of each domain that are scored. */
  readonly tokens: number;
  /** Most tokens of one sequence: each window starts from a fresh begin token and fresh capacity counters. */
  readonly window: number;
  /** Sequences that pass the layers together. */
  readonly perCall: number;
}

export interface TextSourceOptions extends Cut {
  readonly folder: string;
  /** A file instead of the held-out texts of the package. */
  readonly text?: string | undefined;
  readonly model?: OpenModelOptions;
}

/**
 * A text through a package. Throws what opening a package throws, TURNOUT_FILE_MISSING for a text that is not there, and
 * TURNOUT_INPUT_INVALID for one without bytes, a package without held-out text, and windows beyond the context.
 */
export async function openText(options: TextSourceOptions): Promise<Source> {
  const { folder, model: openOptions } = options;
  const pkg = await readPackage(folder);
  const { manifest } = pkg;
  const texts = await readTexts(manifest, options);
  const calls = cutTexts(texts, options, manifest);
  const costs = await costsOf(pkg);
  const model = await MoeModel.open(folder, openOptions);
  const { program } = model;
  try {
    for (const call of calls) await warmCall(program, call);
  } catch (error) {
    await model.close();
    throw error;
  }
  const trained = manifest.layers.map((layer) => layerOptions(layer));
  const columns = program.layers.map(({ router }) => router.experts);
  const most = (of: (call: TextCall) => number) => Math.max(...calls.map(of));
  return {
    description: describe(options, manifest, texts, calls),
    layers: manifest.layers.map(({ name }, layer) => ({ name, experts: columns[layer]! })),
    hasModel: true,
    causal: program.layers.every(({ router }) => router.causal),
    baseline: { name: 'trained', options: trained },
    costs,
    longest: {
      sequence: most(({ windows }) => Math.max(...windows.map(({ ids }) => ids.length))),
      call: most(({ windows }) => windows.reduce((sum, { ids }) => sum + ids.length, 0)),
    },
    calls: calls.length,
    routerOf: (own, layer) => routerFor(own, program.layers[layer]!.router),
    run: (call, { routers }, signal) => scoreCall(program.withRouters(routers), calls[call]!, signal),
    close: () => model.close(),
  };
}

/** Throws where a rule has other experts than the gate scores and the package holds. */
function routerFor(options: RouterOptions, trained: Router): Router {
  const router = routerOver(options, trained.computed);
  const kinds = ({ zeroComputation: { zero, copy, constant } }: Router) => `${zero}, ${copy}, ${constant}`;
  if (kinds(router) === kinds(trained)) return router;
  const message = `zeroComputation: expected ${kinds(trained)} zero, copy and constant experts, got ${kinds(router)}`;
  throw new TurnoutError('TURNOUT_EXPERTS_INVALID', message);
}

type Texts = ReadonlyMap<string, Uint8Array>;

async function readTexts(manifest: Manifest, { folder, text }: TextSourceOptions): Promise<Texts> {
  const files =
    text === undefined
      ? Object.entries(manifest.heldOut ?? {}).map(([domain, file]) => [domain, join(folder, file)] as const)
      : ([['text', text]] as const);
  if (files.length === 0) {
    const message = `${manifest.name} has no held-out text: expected --text`;
    throw new TurnoutError('TURNOUT_INPUT_INVALID', message);
  }
  const entries = files.map(async ([domain, file]) => [domain, await readText(file)] as const);
  return new Map(await Promise.all(entries));
}

async function readText(path: string): Promise<Uint8Array> {
  const bytes = await readFile(path).catch((cause: Error) => {
    const message = `cannot read ${path}: ${cause.message}`;
    throw new TurnoutError('TURNOUT_FILE_MISSING', message, { path }, { cause });
  });
  if (bytes.length > 0) return bytes;
  throw new TurnoutError('TURNOUT_INPUT_INVALID', `${path}: expected a text, got no bytes`, { path });
}

/** The first bytes of each domain in windows; calls take the domains in turn. */
function cutTexts(texts: Texts, { tokens, window, perCall }: Cut, manifest: Manifest): TextCall[] {
  const { sizes, tokenizer } = manifest;
  if (window > sizes.context) {
    const message = `--window: expected at most the context of ${sizes.context} tokens, got ${window}`;
    throw new TurnoutError('TURNOUT_CONTEXT_EXCEEDED', message, { window, context: sizes.context });
  }
  const windows: Window[] = [];
  for (let start = 0; start < tokens; start += window) {
    for (const [domain, text] of texts) {
      const targets = text.subarray(start, Math.min(start + window, tokens));
      if (targets.length === 0) continue;
      const ids = Int32Array.of(tokenizer.begin, ...targets.subarray(0, -1));
      windows.push({ domain, request: windows.length, ids, targets });
    }
  }
  return Array.from({ length: Math.ceil(windows.length / perCall) }, (_, c) => ({
    windows: windows.slice(c * perCall, (c + 1) * perCall),
  }));
}

function describe(
  { tokens, window, perCall, text }: TextSourceOptions,
  manifest: Manifest,
  texts: Texts,
  calls: readonly TextCall[],
) {
  const scored = calls.flatMap(({ windows }) => windows);
  return {
    kind: 'text',
    package: manifest.name,
    packageHash: hashOf(JSON.stringify(manifest)),
    text: text === undefined ? 'held-out' : 'file',
    tokensPerDomain: tokens,
    window,
    sequencesPerCall: perCall,
    sequences: scored.length,
    bytes: scored.reduce((sum, { targets }) => sum + targets.length, 0),
    domains: [...texts.keys()],
    textHash: hashOf(...scored.map(({ targets }) => targets)),
  } as const;
}
