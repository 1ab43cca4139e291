import { Command, Option } from 'commander';
import { ACTIVATIONS, SHAPES } from '../../../bench/routing/names.js';
import { BACKENDS } from '../../model/open.js';
import { numberArgument } from '../support.js';
import type { BenchRoutingFlags } from './bench-source.js';

const EXAMPLES = `
Examples:
  $ turnout bench routing
  $ turnout bench routing --text notes.txt --presets trained,switch,mixtral --sort drop% --html report.html
  $ turnout bench routing --quick --json new.json --compare old.json
  $ turnout bench routing --recording routing.json --factors 1,1.25,none
  $ turnout bench routing --synthetic adversarial --experts 64 --k 8 --tokens 4096

Every rule and preset that fits, with every capacity factor, priority, overflow policy and scope. Combinations that
cannot be are left out, and those that decide alike run once. A text measures quality; a recording (see docs/http.md) and
made-up logits tell loads and drops alone. Rules are swapped in at inference: the figures tell how the model bears the
swap, not what the rule is worth in training.`;

const number = numberArgument;

/** `turnout bench routing`: which rule, at what price. */
export const benchRoutingCommand = new Command('routing')
  .description('Compare routing rules on one model: quality, drops, load, cost and speed side by side.')
  .option('--package <dir>', 'folder of the package; the bundled one where left out')
  .option('--text <file>', 'a text to score; the held-out texts of the package where left out')
  .option(
    '--recording <file>',
    'a recording of the server, or logits as turnout route reads them; - for standard input',
  )
  .addOption(new Option('--synthetic <shape>', 'made-up logits').choices(SHAPES))
  .option('-e, --experts <number>', 'of --synthetic: experts (default 64)', number)
  .option(
    '--tokens <number>',
    'tokens of each domain of a text (default 128), or of --synthetic (2048)',
    number,
  )
  .option('--window <number>', 'most tokens of a sequence (default 128, or 256 of --synthetic)', number)
  .option('--per-call <number>', 'sequences that pass the layers together (default 2)', number)
  .option('--hidden <number>', 'with --inner, for logits alone: hidden size, to tell the cost', number)
  .option('--inner <number>', 'inner size of the experts', number)
  .addOption(new Option('--activation <kind>', 'of those experts').choices(ACTIVATIONS).default('gated'))
  .option('--presets <list>', 'rules: presets, and trained or recorded; all that fit where left out')
  .option('-k, --k <number>', 'choices per token of all rules; their own where left out', number)
  .option('--factors <list>', 'capacity factors; none for dropless (default 1,1.25,1.5,2,none)')
  .option('--priorities <list>', 'who is admitted first: token-major, k-major, batch-prioritised, ...')
  .option('--overflows <list>', 'drop, next-best')
  .option('--scopes <list>', 'request, sequence, call')
  .option('--quick', 'a first look: factors 1.25 and none, token-major, scopes request and sequence')
  .option('--limit <number>', 'combinations at most', number)
  .option('--seed <number>', 'of random rules and made-up logits (default 0)', number)
  .option('--repeats <number>', 'times that each rule runs, for its times (default 1)', number)
  .addOption(new Option('--backend <name>', 'where experts run').choices(BACKENDS).default('inline'))
  .option('--lanes <number>', 'of threads: worker threads', number)
  .option('--sort <column>', 'column of the table (default change, or drop% for logits alone)')
  .option('--rows <number>', 'rows of the table at most; 0 for all', number, 30)
  .option('--json <file>', 'write the report as JSON; - for standard output, instead of the table')
  .option('--html <file>', 'write the report as one HTML file')
  .option('--compare <file>', 'an earlier JSON report: tell what changed')
  .option('--resume <file>', 'keep finished rows in this file, and skip those that are there')
  .addHelpText('after', EXAMPLES)
  .action(async (flags: BenchRoutingFlags) => {
    // The benches are much to load for those who run another command.
    const { benchRouting } = await import('./bench-routing-run.js');
    await benchRouting(flags);
  });
