import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Command } from 'commander';
import { TurnoutError } from '../../errors.js';
import type { LaneStats } from '../../experts/backend.js';
import type { GenerateResult } from '../../model/generate.js';
import { MoeModel } from '../../model/moe-model.js';
import { addModelFlags, modelOptions } from '../model-flags.js';
import { BUNDLED, progressLine } from '../packages.js';
import { drawGeneration, generationJson } from '../render/generation.js';
import { drawHeatMap } from '../render/heat-map.js';
import { drawDevices } from '../render/lanes.js';
import { type Style, styleOf } from '../render/style.js';
import { generateOptions, type RunFlags } from '../run-options.js';
import { EXIT, interruptSignal, numberArgument, print, readSource, write } from '../support.js';

const EXAMPLES = `
Examples:
  $ turnout run "In the beginning was the Word"
  $ echo "def main(" | turnout run - --backend inline --temperature 0 --json
  $ turnout run "The LORD" --capacity-factor 1 --tokens
  $ turnout run "int main" --options '{"admit": {"overflow": "next-best"}}'
  $ turnout run "int main" --backend processes --devices cpu:0,cpu:1
  $ turnout run --json | turnout plan --devices cpu:0,cpu:1 --replicas 10 --json > plan.json
  $ turnout run --backend processes --placement plan.json

Without text it continues one held-out sentence of each domain of the package. --preset replaces the rule of the
package, --options changes single stages of it (see turnout route --help). A comma before a number belongs to the
device: cpu:0,2 is one device, two CPUs.`;

/** Tokens after each held-out sentence: enough to see the routing of six domains on a screen or two. */
const HELD_OUT_TOKENS = 48;

/** `turnout run`: text in, its continuation out, and which experts took each token. */
export const runCommand = addModelFlags(new Command('run'))
  .description('Continue a text with a package, and draw its routing.')
  .option('--package <dir>', 'folder of the package', BUNDLED)
  .argument('[text]', 'the text; - reads standard input; held-out sentences where left out')
  .option(
    '-n, --max-tokens <number>',
    'tokens to generate at most (128, or 48 after held-out text)',
    numberArgument,
  )
  .option('-t, --temperature <number>', '0 takes the most probable token', numberArgument, 0.7)
  .option('--top-k <number>', 'sample from this many tokens', numberArgument)
  .option('--top-p <number>', 'sample from this share of the probability', numberArgument)
  .option('--seed <number>', 'equal seeds give equal texts (default 0)', numberArgument)
  .option('--stop <text...>', 'texts that end the continuation')
  .option('--timeout <ms>', 'time limit of a continuation', numberArgument)
  .option('--tokens', 'list every choice of every token')
  .option('--json', 'print text and routing as JSON')
  .addHelpText('after', EXAMPLES)
  .action(run);

interface Prompt {
  readonly text: string;
  readonly domain?: string;
}

interface Result {
  readonly prompt: Prompt;
  readonly result: GenerateResult;
  /** What the lanes have done by then, since the begin. */
  readonly lanes: readonly LaneStats[];
}

async function run(text: string | undefined, flags: RunFlags): Promise<void> {
  if (text === '-' && flags.placement === '-') {
    const message = 'the text and --placement are both -: standard input can be read once';
    throw new TurnoutError('TURNOUT_OPTIONS_INVALID', message);
  }
  const generate = generateOptions(flags, text === undefined ? HELD_OUT_TOKENS : undefined);
  const signal = interruptSignal(['SIGINT']);
  const source = text === '-' ? await readSource('-') : text;
  await using model = await openModel(flags, signal);
  const prompts: Prompt[] =
    source === undefined ? await heldOutSentences(model, flags.package) : [{ text: source }];
  const results: Result[] = [];
  for (const prompt of prompts) {
    const result = await continueText(model, prompt, { ...generate, signal }, flags);
    if (!result) return;
    results.push({ prompt, result, lanes: model.backend.lanes() });
  }
  const names = model.manifest.layers.map((layer) => layer.name);
  if (flags.json) {
    const all = results.map(({ prompt, result, lanes }) => ({
      ...prompt,
      ...generationJson(prompt.text, result, names),
      lanes,
    }));
    return print(JSON.stringify(source === undefined ? all : all[0], null, 2));
  }
  const style = styleOf(process.stdout);
  if (source === undefined) await print(drawDomains(results, names, style));
  if (flags.backend === 'processes') await print(drawDevices(model.backend.lanes(), style));
}

/** Says on the terminal how far it is. Ctrl-C ends the command at once: many processes take long to start. */
async function openModel(flags: RunFlags, signal: AbortSignal): Promise<MoeModel> {
  const options = await modelOptions(flags);
  const progress = progressLine();
  const onProgress = (ready: number, total: number) =>
    progress.update(`starting processes: ${ready} of ${total}`);
  const leave = () => {
    progress.clear();
    process.exit(EXIT.interrupted);
  };
  signal.addEventListener('abort', leave);
  try {
    return await MoeModel.open(flags.package, {
      ...options,
      onProgress: (done, total) => progress.update(`checking the package: ${done} of ${total} files`),
      ...(flags.backend === 'processes' && { start: { onProgress } }),
    });
  } finally {
    signal.removeEventListener('abort', leave);
    progress.clear();
  }
}

/** Streams one continuation and draws its routing; undefined where Ctrl-C ended it. */
async function continueText(
  model: MoeModel,
  prompt: Prompt,
  options: ReturnType<typeof generateOptions> & { signal: AbortSignal },
  { json, tokens }: RunFlags,
): Promise<GenerateResult | undefined> {
  const style = styleOf(process.stdout);
  try {
    const generation = model.generate(prompt.text, options);
    if (json) return await generation.result();
    if (prompt.domain) await print(style.bold(`== ${prompt.domain}`));
    await write(style.dim(prompt.text));
    for await (const piece of generation) await write(piece.text);
    const result = await generation.result();
    const names = model.manifest.layers.map((layer) => layer.name);
    await print(`\n\n${drawGeneration(result, names, { style, table: tokens === true })}\n`);
    return result;
  } catch (error) {
    if (!options.signal.aborted) throw error;
    if (!json) await print('');
    return undefined;
  }
}

/** The first line of each held-out text that is long enough to say something and short enough to read. */
async function heldOutSentences(model: MoeModel, folder: string): Promise<Prompt[]> {
  const entries = Object.entries(model.manifest.heldOut ?? {});
  return Promise.all(
    entries.map(async ([domain, file]) => {
      const lines = (await readFile(join(folder, file), 'utf8')).split('\n');
      const length = (line: string) => Buffer.byteLength(line);
      const sentence = lines.find((line) => length(line) >= 40 && length(line) <= 160) ?? lines[0] ?? '';
      return { text: sentence, domain };
    }),
  );
}

/** Domain x expert, for the layer whose experts tell the domains apart best to the eye: the last one. */
function drawDomains(results: readonly Result[], names: readonly string[], style: Style): string {
  const layer = names.length - 1;
  const rows = results.map(({ prompt, result }) => {
    const routing = result.routing[layer]!;
    const kept = new Array<number>(routing.experts).fill(0);
    let all = 0;
    routing.expert.forEach((expert, a) => {
      if (routing.reason[a] !== 0) return;
      kept[expert]!++;
      all++;
    });
    return { name: prompt.domain ?? '', shares: kept.map((count) => count / Math.max(1, all)) };
  });
  const title = style.dim(`share of the kept assignments of ${names[layer]}, in %, by domain and expert`);
  return `${title}\n${drawHeatMap({ title: 'domain', rows }, style)}`;
}
