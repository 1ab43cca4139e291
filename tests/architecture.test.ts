import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { describe, expect, it } from 'vitest';

const SRC = join(import.meta.dirname, '..', 'src');

interface Import {
  /** Importing file, relative to src. */
  readonly from: string;
  /** Imported file relative to src, or the package name. */
  readonly to: string;
  readonly typeOnly: boolean;
}

/** Every static or dynamic import of every file under src. */
const imports: Import[] = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts'))
  .flatMap((file) => importsOf(file));

function importsOf(file: string): Import[] {
  const text = readFileSync(join(SRC, file), 'utf8');
  const statement =
    /(?:^|\n)\s*(import|export)\s+(type\s+)?([^'";]*?\sfrom\s+)?'([^']+)'|\bimport\('([^']+)'\)/g;
  return [...text.matchAll(statement)].map((match) => {
    const target = match[4] ?? match[5]!;
    const to = target.startsWith('.')
      ? normalize(join(dirname(file), target)).replace(/\.js$/, '.ts')
      : target.replace(/^((?:@[^/]+\/)?[^/]+).*$/, '$1');
    return { from: file, to, typeOnly: match[2] !== undefined };
  });
}

/** The layers of the house: a file may import from its own layer and those before it. */
const LAYERS: readonly (readonly [name: string, pattern: RegExp])[] = [
  ['foundation', /^(tensor|errors|schema|shared-memory)\.ts$/],
  ['parts', /^(router\/|experts\/|gate\.ts$)/],
  ['moe-layer', /^moe-layer\.ts$/],
  ['model', /^model\//],
  ['server', /^server\//],
  ['entries', /^(index|router|server)\.ts$/],
  ['benches', /^\.\.\/bench\//],
  ['cli', /^cli\//],
];

const layerOf = (file: string) => LAYERS.findIndex(([, pattern]) => pattern.test(file));
const inside = imports.filter(({ to }) => to.endsWith('.ts'));

/** Third-party packages with one home each. */
const HOMES: Record<string, RegExp> = {
  'onnxruntime-node': /^experts\/session\.ts$/,
  piscina: /^experts\/(pool|transferring)\.ts$/,
  msgpackr: /^experts\/frames\.ts$/,
  fastify: /^server\//,
  'prom-client': /^server\/(engine-)?metrics\.ts$/,
  '@opentelemetry/api': /^server\/tracing\.ts$/,
  '@huggingface/jinja': /^model\/chat-template\.ts$/,
  protobufjs: /^model\/onnx-proto\.ts$/,
  commander: /^cli\//,
};

const show = ({ from, to }: Import) => `${from} imports ${to}`;

describe('the import rules of the house', () => {
  it('reads imports at all', () => {
    expect(imports.length).toBeGreaterThan(50);
    expect(imports.map(show)).toContain('gate.ts imports experts/session.ts');
  });

  it('gives each file a layer', () => {
    const files = new Set(imports.flatMap(({ from, to }) => (to.endsWith('.ts') ? [from, to] : [from])));
    expect([...files].filter((file) => layerOf(file) < 0)).toEqual([]);
  });

  it('runs one way', () => {
    expect(inside.filter(({ from, to }) => layerOf(to) > layerOf(from)).map(show)).toEqual([]);
  });

  it('keeps router and experts apart', () => {
    const crossing = inside.filter(
      ({ from, to }) =>
        (from.startsWith('router/') && /^(experts\/|gate)/.test(to)) ||
        (from.startsWith('experts/') && /^(router\/|gate)/.test(to)),
    );
    expect(crossing.map(show)).toEqual([]);
  });

  it('hands the backend to the layer: types only', () => {
    const values = inside.filter(
      ({ from, to, typeOnly }) => from === 'moe-layer.ts' && to.startsWith('experts/') && !typeOnly,
    );
    expect(values.map(show)).toEqual([]);
  });

  it('gives each third-party runtime one home', () => {
    const strays = imports.filter(({ from, to }) => to in HOMES && !HOMES[to]!.test(from));
    expect(strays.map(show)).toEqual([]);
  });

  it('keeps the router free of input and output', () => {
    const io = imports.filter(({ from, to }) => from.startsWith('router/') && to.startsWith('node:'));
    expect(io.map(show)).toEqual([]);
  });

  it('lets only cli/commands/bench see the benches', () => {
    const reach = imports.filter(
      ({ to, from }) => relative('.', to).startsWith('..') && !from.startsWith('cli/commands/bench'),
    );
    expect(reach.map(show)).toEqual([]);
  });

  it('has no inner barrels', () => {
    const barrels = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter((file) =>
      /\/index\.ts$/.test(file),
    );
    expect(barrels).toEqual([]);
  });
});
