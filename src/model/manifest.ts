import Type, { type Static } from 'typebox';
import { TurnoutError } from '../errors.js';
import { checker } from '../schema.js';

/**
 * Limits on what a manifest may claim. They stop a hostile file from asking for unbounded memory;
 * each is far above any model that exists.
 */
export const MANIFEST_LIMITS = {
  /** Bytes of manifest.json itself: 6,144 experts with checksums need about 2 MB. */
  MAX_MANIFEST_BYTES: 64 * 1024 * 1024,
  /** Files of one package: layers x experts x 2, with room. */
  MAX_FILES: 1_000_000,
  /** Bytes of one file: ONNX external data offsets are 63-bit, disks are not. */
  MAX_FILE_BYTES: 2 ** 42,
  /** Characters of a chat template: the longest in use have some thousands. */
  MAX_TEMPLATE: 65_536,
  MAX_LAYERS: 1024,
  MAX_EXPERTS: 65_536,
  MAX_STEPS: 8192,
  MAX_CONTEXT: 16 * 1024 * 1024,
} as const;

const name = Type.String({ minLength: 1, maxLength: 200 });
const path = Type.String({
  minLength: 1,
  maxLength: 400,
  description: 'Path inside the package, with forward slashes.',
});
const count = (maximum: number) => Type.Integer({ minimum: 1, maximum });
const closed = { additionalProperties: false } as const;
const names = Type.Record(name, name);

const ModelFile = Type.Object({ model: path }, closed);

const Layer = Type.Object(
  {
    name,
    gate: Type.Optional(
      Type.Union([ModelFile, Type.Object({ logits: name }, closed)], {
        description:
          'The gate: an ONNX file x [n,H] -> logits [n,E], or the program tensor that already holds the logits.',
      }),
    ),
    router: Type.Object(
      { preset: name, options: Type.Optional(Type.Record(Type.String(), Type.Unknown())) },
      closed,
    ),
    experts: Type.Array(ModelFile, { minItems: 1, maxItems: MANIFEST_LIMITS.MAX_EXPERTS }),
    shared: Type.Optional(Type.Array(ModelFile, { maxItems: MANIFEST_LIMITS.MAX_EXPERTS })),
  },
  closed,
);

const PagedState = Type.Object(
  {
    name,
    kind: Type.Literal('paged'),
    heads: count(4096),
    size: count(4096),
    block: Type.Integer({ minimum: 1, maximum: 4096, description: 'Positions per cache block.' }),
  },
  closed,
);

const ReplaceState = Type.Object(
  {
    name,
    kind: Type.Literal('replace'),
    input: name,
    output: name,
    initial: Type.Array(Type.Integer({ minimum: 0, maximum: MANIFEST_LIMITS.MAX_CONTEXT }), {
      description: 'Shape of the zeros that a fresh sequence starts with.',
    }),
  },
  closed,
);

const GraphStep = Type.Object(
  {
    kind: Type.Literal('graph'),
    domain: Type.Union([Type.Literal('rows'), Type.Literal('sequence')]),
    model: path,
    inputs: names,
    outputs: names,
    state: Type.Optional(name),
  },
  closed,
);

const MoeStep = Type.Object(
  { kind: Type.Literal('moe'), layer: Type.Integer({ minimum: 0 }), input: name, output: name },
  closed,
);

/** The JSON schema of manifest.json, format version 1. */
export const ManifestSchema = Type.Object(
  {
    format: Type.Literal('turnout-package'),
    version: Type.Literal(1),
    name: Type.String({ pattern: '^[a-z0-9][a-z0-9._-]{0,63}$' }),
    description: Type.Optional(Type.String()),
    license: Type.String(),
    provenance: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
    sizes: Type.Object(
      {
        hidden: count(1 << 20),
        layers: count(MANIFEST_LIMITS.MAX_LAYERS),
        experts: count(MANIFEST_LIMITS.MAX_EXPERTS),
        choices: count(MANIFEST_LIMITS.MAX_EXPERTS),
        inner: count(1 << 20),
        vocabulary: count(1 << 24),
        context: count(MANIFEST_LIMITS.MAX_CONTEXT),
        parameters: Type.Object({ total: count(2 ** 50), active: count(2 ** 50) }, closed),
      },
      closed,
    ),
    tokenizer: Type.Object(
      { type: Type.Literal('bytes'), begin: Type.Integer({ minimum: 0 }), end: Type.Integer({ minimum: 0 }) },
      closed,
    ),
    chatTemplate: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: MANIFEST_LIMITS.MAX_TEMPLATE,
        description: 'Jinja: messages, add_generation_prompt -> the prompt of a chat.',
      }),
    ),
    layers: Type.Array(Layer, { minItems: 1, maxItems: MANIFEST_LIMITS.MAX_LAYERS }),
    program: Type.Object(
      {
        inputs: Type.Object({ ids: name, positions: name, select: name }, closed),
        outputs: Type.Object({ logits: name }, closed),
        states: Type.Array(Type.Union([PagedState, ReplaceState]), {
          maxItems: MANIFEST_LIMITS.MAX_LAYERS * 4,
        }),
        steps: Type.Array(Type.Union([GraphStep, MoeStep]), {
          minItems: 1,
          maxItems: MANIFEST_LIMITS.MAX_STEPS,
        }),
      },
      closed,
    ),
    heldOut: Type.Optional(Type.Record(name, path)),
    files: Type.Record(
      path,
      Type.Object(
        {
          bytes: Type.Integer({ minimum: 0, maximum: MANIFEST_LIMITS.MAX_FILE_BYTES }),
          sha256: Type.String({ pattern: '^[0-9a-f]{64}$' }),
        },
        closed,
      ),
      { maxProperties: MANIFEST_LIMITS.MAX_FILES },
    ),
  },
  closed,
);

declare const parsed: unique symbol;
/** A manifest whose schema, paths and program have been checked. Only `parseManifest` makes one. */
export type Manifest = Static<typeof ManifestSchema> & { readonly [parsed]: true };
export type LayerEntry = Static<typeof Layer>;
export type GraphStepEntry = Static<typeof GraphStep>;
export type MoeStepEntry = Static<typeof MoeStep>;
export type PagedStateEntry = Static<typeof PagedState>;
export type ReplaceStateEntry = Static<typeof ReplaceState>;

const checkSchema = checker(ManifestSchema, 'TURNOUT_MANIFEST_INVALID', 'manifest.json');

/**
 * The text of manifest.json -> Manifest. Reads no other file.
 * Throws TURNOUT_MANIFEST_INVALID (schema, program) or TURNOUT_PACKAGE_PATH_OUTSIDE (a path that leaves the package).
 */
export function parseManifest(text: string): Manifest {
  if (text.length > MANIFEST_LIMITS.MAX_MANIFEST_BYTES) {
    throw invalid(`expected at most ${MANIFEST_LIMITS.MAX_MANIFEST_BYTES} characters, got ${text.length}`);
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw invalid(`not JSON: ${(cause as Error).message}`, cause);
  }
  const manifest = checkSchema(value) as Manifest;
  for (const file of Object.keys(manifest.files)) checkPath(file);
  for (const file of modelFiles(manifest)) checkListed(manifest, file);
  for (const file of Object.values(manifest.heldOut ?? {})) checkListed(manifest, file);
  checkSizes(manifest);
  checkProgram(manifest);
  return manifest;
}

/** Every ONNX file that the manifest refers to. */
export function modelFiles(manifest: Manifest): string[] {
  const graphs = manifest.program.steps.flatMap((step) => (step.kind === 'graph' ? [step.model] : []));
  const layers = manifest.layers.flatMap((layer) => [
    ...(layer.gate && 'model' in layer.gate ? [layer.gate.model] : []),
    ...[...layer.experts, ...(layer.shared ?? [])].map((expert) => expert.model),
  ]);
  return [...graphs, ...layers];
}

/** Throws TURNOUT_PACKAGE_PATH_OUTSIDE unless `file` is a plain relative path below the package folder. */
export function checkPath(file: string): void {
  const parts = file.split('/');
  const plain = parts.every((part) => part !== '' && part !== '.' && part !== '..');
  if (!plain || /[\\\0:]/.test(file)) {
    throw new TurnoutError(
      'TURNOUT_PACKAGE_PATH_OUTSIDE',
      `expected a relative path inside the package, got ${JSON.stringify(file)}`,
      { file },
    );
  }
}

function checkListed(manifest: Manifest, file: string): void {
  checkPath(file);
  if (!Object.hasOwn(manifest.files, file)) {
    throw invalid(`${JSON.stringify(file)} is used but has no entry (bytes, sha256) in "files"`);
  }
}

function checkSizes(manifest: Manifest): void {
  const { sizes, tokenizer } = manifest;
  const expect = (ok: boolean, message: string) => {
    if (!ok) throw invalid(message);
  };
  expect(
    manifest.layers.length === sizes.layers,
    `sizes.layers is ${sizes.layers}, but ${manifest.layers.length} layers are listed`,
  );
  manifest.layers.forEach((layer, l) => {
    expect(
      layer.experts.length === sizes.experts,
      `layers[${l}] lists ${layer.experts.length} experts, sizes.experts is ${sizes.experts}`,
    );
  });
  expect(
    new Set(manifest.layers.map((layer) => layer.name)).size === sizes.layers,
    'two layers have the same name',
  );
  for (const end of ['begin', 'end'] as const) {
    expect(
      tokenizer[end] < sizes.vocabulary,
      `tokenizer.${end} is ${tokenizer[end]}, the vocabulary has ${sizes.vocabulary} tokens`,
    );
  }
  expect(
    sizes.vocabulary >= 257,
    `a byte tokenizer needs a vocabulary of at least 257, got ${sizes.vocabulary}`,
  );
}

/** Every tensor is produced before it is used, once; every state is used by one step of its domain. */
function checkProgram(manifest: Manifest): void {
  const { inputs, outputs, states, steps } = manifest.program;
  const known = new Set<string>(Object.values(inputs));
  const free = new Map(states.map((state) => [state.name, state]));
  const need = (tensor: string, where: string) => {
    if (!known.has(tensor))
      throw invalid(`${where} reads tensor ${JSON.stringify(tensor)} before any step makes it`);
  };
  const make = (tensor: string, where: string) => {
    if (known.has(tensor)) throw invalid(`${where} makes tensor ${JSON.stringify(tensor)} a second time`);
    known.add(tensor);
  };
  steps.forEach((step, index) => {
    const where = `program.steps[${index}]`;
    if (step.kind === 'moe') {
      const layer = manifest.layers[step.layer];
      if (!layer) throw invalid(`${where} names layer ${step.layer} of ${manifest.layers.length}`);
      need(step.input, where);
      if (layer.gate && 'logits' in layer.gate) need(layer.gate.logits, where);
      make(step.output, where);
      return;
    }
    for (const tensor of Object.values(step.inputs)) need(tensor, where);
    if (step.state !== undefined) {
      const state = free.get(step.state);
      if (!state)
        throw invalid(
          `${where} uses state ${JSON.stringify(step.state)}, which does not exist or has a user already`,
        );
      if ((state.kind === 'paged') !== (step.domain === 'rows')) {
        throw invalid(`${where}: a ${state.kind} state cannot be used in the domain ${step.domain}`);
      }
      free.delete(step.state);
    }
    for (const tensor of Object.values(step.outputs)) make(tensor, where);
  });
  need(outputs.logits, 'program.outputs');
  const blocks = new Set(states.flatMap((state) => (state.kind === 'paged' ? [state.block] : [])));
  if (blocks.size > 1) throw invalid(`paged states must share one block size, got ${[...blocks].join(', ')}`);
}

function invalid(message: string, cause?: unknown): TurnoutError {
  return new TurnoutError('TURNOUT_MANIFEST_INVALID', `manifest.json: ${message}`, {}, { cause });
}
