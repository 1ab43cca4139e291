import { Command, Option } from 'commander';
import type { ScaleFlags } from '../../../bench/scale/settings.js';
import { numberArgument } from '../support.js';
import type { ReportFlags } from './bench-report.js';

const EXAMPLES = `
Examples:
  $ turnout bench scale
  $ turnout bench scale --experts 8,128 --hidden 2048 --inner 768 -k 8 --rows 4
  $ turnout bench scale --backend threads --replicas 1 --json new.json --compare old.json

Tokens grow with the experts, so that each expert has as many rows in every call. The logits are given: no gate computes.
The ratio is that to the same backend with the least experts, round by round.`;

const number = numberArgument;

/** `turnout bench scale`: what more experts cost. */
export const benchScaleCommand = new Command('scale')
  .description(
    'Measure what a token costs as the experts of a layer grow in number, with k and their load the same.',
  )
  .option('-e, --experts <list>', 'numbers of experts, ascending', '8,64,512,1024')
  .option('-k, --k <number>', 'choices per token', number, 2)
  .option('--rows <number>', 'rows of each expert in each call', number, 16)
  .option('--hidden <number>', 'hidden size', number, 1024)
  .option('--inner <number>', 'inner size of the experts', number, 1024)
  .option('--backend <list>', 'where experts run', 'inline,threads')
  .addOption(
    new Option('--residency <kind>', 'of the weights').choices(['packed', 'mapped']).default('mapped'),
  )
  .option('--lanes <number>', 'of threads: worker threads (default: cores)', number)
  .option('--replicas <number>', 'of threads: lanes that hold each expert (default all)', number)
  .option('--rounds <number>', 'readings of each', number, 5)
  .option('--json <file>', 'write the report as JSON; - for standard output, instead of the table')
  .option('--compare <file>', 'an earlier JSON report: tell what changed')
  .addHelpText('after', EXAMPLES)
  .action(async (flags: ScaleFlags & ReportFlags) => {
    // The benches are much to load for those who run another command.
    const { benchScale } = await import('./bench-scale-run.js');
    await benchScale(flags);
  });
