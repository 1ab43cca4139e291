import { Command, Option } from 'commander';
import { BACKENDS } from '../../model/open.js';
import { numberArgument } from '../support.js';
import type { BenchServerFlags } from './bench-server-run.js';

const EXAMPLES = `
Examples:
  $ turnout bench server
  $ turnout bench server --package my-package --clients 1,16 --tokens 32 --backend threads --lanes 2
  $ turnout bench server --backend processes --devices cpu:0,cpu:1 --json new.json --compare old.json
  $ turnout bench server --overload --minutes 2

Clients ask over HTTP for answers of so many tokens, each anew when it is answered, whole and streamed; the rival is the
engine of the same package called directly with as many texts at a time, in a process of its own. The texts of both are
compared first. They run in turns, and the load generator computes on the same machine.`;

const number = numberArgument;

/** `turnout bench server`: what HTTP costs. */
export const benchServerCommand = new Command('server')
  .description(
    'Measure the server on this machine beside the engine called directly: tokens a second, latency, overload.',
  )
  .option('--package <dir>', 'folder of the package; the bundled one where left out')
  .option('--clients <list>', 'concurrent clients', '1,8,32')
  .option('--tokens <number>', 'tokens of each answer', number, 64)
  .option('--seconds <number>', 'seconds of each reading', number, 3)
  .option('--rounds <number>', 'readings of each contender', number, 3)
  .option('--overload', 'also ten times the load that the server can bear')
  .option('--minutes <number>', 'minutes of overload, from 2', number, 4)
  .addOption(new Option('--backend <name>', 'where experts run').choices(BACKENDS).default('auto'))
  .addOption(
    new Option('--residency <kind>', 'of the weights').choices(['packed', 'mapped']).default('packed'),
  )
  .option('--lanes <number>', 'of threads: worker threads', number)
  .option('--devices <list>', 'of processes: where they compute, such as cpu:0,cpu:1')
  .option('--json <file>', 'write the report as JSON; - for standard output, instead of the tables')
  .option('--compare <file>', 'an earlier JSON report: tell what changed')
  .addHelpText('after', EXAMPLES)
  .action(async (flags: BenchServerFlags) => {
    // The benches are much to load for those who run another command.
    const { benchServerRun } = await import('./bench-server-run.js');
    await benchServerRun(flags);
  });
