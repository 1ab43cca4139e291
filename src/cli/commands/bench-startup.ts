import { Command, Option } from 'commander';
import { MODEL_NAMES } from '../../../bench/layer/shapes.js';
import type { StartupFlags } from '../../../bench/startup/settings.js';
import { BACKENDS } from '../../model/open.js';
import { numberArgument } from '../support.js';
import type { ReportFlags } from './bench-report.js';

const EXAMPLES = `
Examples:
  $ turnout bench startup
  $ turnout bench startup --package my-package --backend threads,processes --residency packed
  $ turnout bench startup --model qwen3-30b-a3b --dtype int4
  $ turnout bench startup --experts 6144 --hidden 1024 --inner 768 --residency mapped --backend inline,threads --replicas 1
  $ turnout bench startup --rounds 5 --json new.json --compare old.json

Every reading is that of a fresh process that opens all experts, has one row computed by the first, and ends. Beside the
runtime: one session around ONNX Runtime's fused operator over the same weights, bare sessions with nothing around them,
and reading the bytes. What they compute is compared first. Files are in the page cache: no cold disk is measured.
With 'mapped' the pages of weights are shared by all lanes and processes; '--replicas 1' has each expert on one lane.`;

const number = numberArgument;

/** `turnout bench startup`: how long until the first answer, and how much memory. */
export const benchStartupCommand = new Command('startup')
  .description('Measure the time until the first answer, and the memory, by backend and residency.')
  .option('--package <dir>', 'folder of the package; the bundled one where left out')
  .addOption(
    new Option('--model <name>', 'made-up experts of the sizes of a known model').choices(MODEL_NAMES),
  )
  .option('-e, --experts <number>', 'made-up experts, with --hidden and --inner', number)
  .option('--hidden <number>', 'their hidden size', number)
  .option('--inner <number>', 'their inner size', number)
  .addOption(
    new Option('--activation <kind>', 'their activation (default swiglu)').choices(['relu', 'swiglu']),
  )
  .addOption(new Option('--dtype <type>', 'of their weights (default float32)').choices(['float32', 'int4']))
  .option('--backend <list>', 'where experts run', BACKENDS.join())
  .option('--residency <list>', 'of the weights; mapped for float32 alone', 'packed,mapped')
  .option('--lanes <number>', 'worker threads, or processes of one device each (default: cores)', number)
  .option('--replicas <number>', 'lanes of threads, or devices of processes, that hold each expert', number)
  .addOption(
    new Option(
      '--one-process-per <what>',
      'of processes (default expert, and device for more than 64 experts)',
    ).choices(['expert', 'device']),
  )
  .option('--rounds <number>', 'readings of each contender', number, 3)
  .option('--json <file>', 'write the report as JSON; - for standard output, instead of the table')
  .option('--compare <file>', 'an earlier JSON report: tell what changed')
  .addHelpText('after', EXAMPLES)
  .action(async (flags: StartupFlags & ReportFlags) => {
    // The benches are much to load for those who run another command.
    const { benchStartup } = await import('./bench-startup-run.js');
    await benchStartup(flags);
  });
