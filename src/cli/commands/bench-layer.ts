import { Command, Option } from 'commander';
import { CONTENDERS } from '../../../bench/layer/names.js';
import { MODEL_NAMES } from '../../../bench/layer/shapes.js';
import { numberArgument } from '../support.js';
import type { BenchLayerFlags } from './bench-layer-run.js';

const EXAMPLES = `
Examples:
  $ turnout bench layer
  $ turnout bench layer --experts 128 --k 8 --hidden 2048 --inner 768 --dtype int4
  $ turnout bench layer --model olmoe-1b-7b --tokens 1,16,256 --json olmoe.json
  $ turnout bench layer --grid --json new.json --compare old.json
  $ turnout bench layer --package experts/babel --layer 2 --contenders inline,threads

Contenders: ${CONTENDERS.join(', ')}. All are checked to give the same before they are timed, in turns. No time
stands without its ratio: to the limit (the same expert calls with nothing around them), to the fused operator of ONNX
Runtime, and to the floor of the machine (its measured memory bandwidth and peak). See docs/bench-layer.md.`;

const number = numberArgument;

/** `turnout bench layer`: how fast one layer is here, beside its rivals and its limits. */
export const benchLayerCommand = new Command('layer')
  .description('Time one layer on this machine: on every backend, beside rivals and limits.')
  .option('--package <dir>', 'a layer of this package, instead of a made-up one')
  .option('--layer <number>', 'of the package (default 0)', number)
  .addOption(new Option('--model <name>', 'the sizes of a known model').choices(MODEL_NAMES))
  .option('-e, --experts <number>', 'E (default 16)', number)
  .option('-k, --k <number>', 'choices per token (default 2)', number)
  .option('--hidden <number>', 'H (default 1024)', number)
  .option('--inner <number>', 'F, inner size of an expert (default 2048)', number)
  .addOption(new Option('--dtype <type>', 'of the weights (default float32)').choices(['float32', 'int4']))
  .option(
    '--group <number>',
    'values of int4 weights that share a scale: 32, 64 or 128 (default 128 where it divides)',
    number,
  )
  .addOption(new Option('--activation <kind>', 'of the experts (default relu)').choices(['relu', 'swiglu']))
  .option('--grid', 'eight shapes one after the other: E 8 and 64, k 2 and 8, float32 and int4')
  .option('--tokens <list>', 'T of the calls', '1,4,16,64,256,1024')
  .option('--loads <list>', 'even, skewed (half of the tokens want the first expert)', 'even,skewed')
  .option('--contenders <list>', 'who runs; the limits run in any case', CONTENDERS.join())
  .option('--lanes <number>', 'threads of each contender (default: the cores)', number)
  .option('--devices <list>', 'of processes, one each (default: the first cores, as many as lanes)')
  .addOption(
    new Option('--residency <kind>', 'of the weights').choices(['packed', 'mapped']).default('packed'),
  )
  .option('--rounds <number>', 'readings of each time', number, 9)
  .option('--memory <GiB>', 'what all copies of the weights may take (default: 60 % of what is free)', number)
  .option('--seed <number>', 'of weights and rows', number, 1)
  .option('--json <file>', 'write the report as JSON; - for standard output, instead of the tables')
  .option('--compare <file>', 'an earlier JSON report: tell what changed')
  .addHelpText('after', EXAMPLES)
  .action(async (flags: BenchLayerFlags) => {
    // The benches are much to load for those who run another command.
    const { benchLayerRun } = await import('./bench-layer-run.js');
    await benchLayerRun(flags);
  });
