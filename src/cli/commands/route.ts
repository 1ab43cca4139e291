import { Command } from 'commander';
import { assertGoodRows } from '../../router/bad-rows.js';
import { createRouter } from '../../router/create.js';
import type { LossContext } from '../../router/losses.js';
import { parseOptions, RouterOptions, smallestExperts, withShortcuts } from '../../router/options.js';
import { presetNames, presetOptions } from '../../router/presets.js';
import type { Router, RouterInput } from '../../router/routing.js';
import { readRows } from '../../router/rows.js';
import { noiseOf } from '../../router/token-choice/score.js';
import { parseInput, RouteInput } from '../route-input.js';
import { describeRouting, RouteOutput } from '../route-output.js';
import { factorArgument, numberArgument, parseJson, print, readOverrides, readSource } from '../support.js';

interface Flags {
  preset?: string;
  options?: string;
  experts?: number;
  k?: number;
  capacityFactor?: number | 'none';
  listPresets?: true;
  schema?: true;
}

const EXAMPLES = `
Example:
  $ echo '{"logits": [[2, 1, 0, -1], [2, 0, 1, -1]]}' | turnout route --preset switch
  $ turnout route logits.json --preset mixtral --options '{"admit": {"factor": 1.25}}'

Options of --options lie over the preset, stage by stage and key by key; null takes a key away, and
{"admit": "none"} the capacity. Options that name another algorithm, or come without --preset, are the
whole rule. --schema prints every key with its meaning.`;

/** `turnout route`: logits in, routing out. */
export const routeCommand = new Command('route')
  .description('Route logits with a preset or with your own options, and print the routing as JSON.')
  .argument('[file]', 'JSON file {"logits": [[E numbers] x T], ...}; - for standard input', '-')
  .option('-p, --preset <name>', 'the rule to start from (see --list-presets)')
  .option('-o, --options <json>', 'a JSON file, or JSON itself: options over the preset')
  .option('-k, --k <number>', 'choices per token', numberArgument)
  .option('-c, --capacity-factor <number>', 'capacity factor, or none for dropless', factorArgument)
  .option('-e, --experts <number>', 'E, where no logits tell it', numberArgument)
  .option('--list-presets', 'print the names of the presets')
  .option('--schema', 'print the JSON schemas of input, options and output')
  .option('--json', 'print errors as JSON too')
  .addHelpText('after', EXAMPLES)
  .action(routeFile);

async function routeFile(file: string, flags: Flags): Promise<void> {
  if (flags.listPresets) return print(presetNames.join('\n'));
  if (flags.schema) {
    return print(JSON.stringify({ input: RouteInput, options: RouterOptions, output: RouteOutput }, null, 2));
  }
  const options = await readOptions(flags);
  if (file === '-' && process.stdin.isTTY)
    process.stderr.write('Reading JSON from the terminal; end it with Ctrl-D.\n');
  const input = parseInput(parseJson(await readSource(file), file === '-' ? 'standard input' : file));
  const experts = input.experts ?? flags.experts ?? smallestExperts(options);
  const router = createRouter(options, experts);
  const call = input.toRouterInput(experts, router.choices);
  const routing = router.route(call);
  assertGoodRows(routing);
  const losses = lossContext(options, call, router);
  const output = describeRouting(routing, { preset: flags.preset ?? null, options, router, losses });
  await print(JSON.stringify(output, null, 2));
}

/** What the losses need beside the routing: the sequences, and the noise of the rule. */
function lossContext(options: RouterOptions, call: RouterInput, { experts, choices }: Router): LossContext {
  const rows = readRows(call, experts, choices);
  const sequences = rows.spans.map(({ length }) => length);
  if (options.algorithm !== 'token-choice') return { sequences };
  const noise = noiseOf(options.score, call, rows, options.seed);
  return { sequences, ...(noise && { noise }) };
}

/** The preset with what the command line lays over it. */
async function readOptions(flags: Flags): Promise<RouterOptions> {
  const overrides = flags.options === undefined ? {} : await readOverrides(flags.options);
  const { preset } = flags;
  const options = preset === undefined ? parseOptions(overrides) : presetOptions(preset, overrides);
  return withShortcuts(options, flags);
}
