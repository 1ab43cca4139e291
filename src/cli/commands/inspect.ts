import { Command } from 'commander';
import { layerOptions, routerOver } from '../../model/layer-router.js';
import type { LayerEntry, Manifest } from '../../model/manifest.js';
import { readPackage } from '../../model/package.js';
import type { RouterOptions } from '../../router/options.js';
import { BUNDLED } from '../packages.js';
import { print } from '../support.js';

const EXAMPLE = `
Example:
  $ turnout inspect experts/babel
  $ turnout inspect --json | jq .parameters`;

/** `turnout inspect`: what a package holds. Reads the manifest alone. */
export const inspectCommand = new Command('inspect')
  .description('Show what a package holds.')
  .argument('[dir]', 'folder of the package; the bundled one where left out', BUNDLED)
  .option('--json', 'print the summary as JSON')
  .addHelpText('after', EXAMPLE)
  .action(async (folder: string, { json }: { json?: true }) => {
    const { manifest } = await readPackage(folder);
    const summary = { folder, ...summarise(manifest) };
    await print(json ? JSON.stringify(summary, null, 2) : describe(summary));
  });

/** A manifest in numbers and words. */
function summarise(manifest: Manifest) {
  const { name, description, license, sizes, tokenizer, layers, program, heldOut = {}, files } = manifest;
  const { parameters, ...dimensions } = sizes;
  return {
    name,
    description,
    license,
    sizes: dimensions,
    parameters,
    tokenizer,
    files: filesByKind(files),
    layers: layers.map(summariseLayer),
    steps: program.steps.map((step) =>
      step.kind === 'moe'
        ? `moe ${layers[step.layer]!.name}`
        : `${step.domain} ${step.model}${step.state ? ` (state ${step.state})` : ''}`,
    ),
    states: program.states.map((state) =>
      state.kind === 'paged'
        ? `${state.name}: paged, ${state.heads} heads of ${state.size}, blocks of ${state.block}`
        : `${state.name}: replaced, [${state.initial.join(', ')}]`,
    ),
    heldOut: Object.keys(heldOut),
  };
}

function summariseLayer(layer: LayerEntry) {
  const options = layerOptions(layer);
  const { causal, choices, experts } = routerOver(options, layer.experts.length);
  return {
    name: layer.name,
    preset: layer.router.preset,
    experts: layer.experts.length,
    zeroComputation: experts - layer.experts.length,
    shared: layer.shared?.length ?? 0,
    choices,
    causal,
    options,
  };
}

function filesByKind(files: Manifest['files']) {
  const kinds: Record<string, { files: number; bytes: number }> = {};
  for (const [file, { bytes }] of Object.entries(files)) {
    const kind = file.includes('.') ? file.slice(file.lastIndexOf('.') + 1) : 'other';
    kinds[kind] = { files: (kinds[kind]?.files ?? 0) + 1, bytes: (kinds[kind]?.bytes ?? 0) + bytes };
  }
  return kinds;
}

function describe(summary: ReturnType<typeof summarise> & { folder: string }): string {
  const { sizes, parameters } = summary;
  const million = (count: number) => `${(count / 1e6).toFixed(2)} M`;
  const size = (bytes: number) =>
    bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
  const kinds = Object.entries(summary.files).map(
    ([kind, { files, bytes }]) => `${files} .${kind} (${size(bytes)})`,
  );
  return [
    `${summary.name}: ${summary.description ?? ''}`,
    `  folder      ${summary.folder}`,
    `  licence     ${summary.license}`,
    `  parameters  ${million(parameters.total)} in all, ${million(parameters.active)} active per token`,
    `  sizes       ${Object.entries(sizes)
      .map(([key, value]) => `${key} ${value}`)
      .join(', ')}`,
    `  tokenizer   ${summary.tokenizer.type}`,
    `  files       ${kinds.join(', ')}`,
    `  held out    ${summary.heldOut.join(', ') || 'none'}`,
    'layers',
    ...summary.layers.map((layer) => `  ${layer.name}  ${describeLayer(layer)}`),
    'program',
    ...summary.steps.map((step) => `  ${step}`),
    'states',
    ...summary.states.map((state) => `  ${state}`),
  ].join('\n');
}

function describeLayer(layer: ReturnType<typeof summariseLayer>): string {
  const extra = [
    ...(layer.zeroComputation ? [`${layer.zeroComputation} without computation`] : []),
    ...(layer.shared ? [`${layer.shared} shared`] : []),
  ];
  const experts = [`${layer.experts} experts`, ...extra].join(' + ');
  return `${experts}, ${layer.choices} a token by ${layer.preset}, ${describeCapacity(layer.options)}, ${layer.causal ? 'causal' : 'not causal'}`;
}

function describeCapacity(options: RouterOptions): string {
  const admit = 'admit' in options ? options.admit : undefined;
  if (admit === undefined || admit === 'none') return 'dropless';
  const amount =
    'factor' in admit
      ? `capacity factor ${admit.factor} (${admit.formula ?? 'megatron'})`
      : `capacity ${admit.capacity}`;
  return `${amount}, scope ${admit.scope ?? 'request'}`;
}
