import { type Command, Option } from 'commander';
import type { RouterChoice } from '../model/layer-router.js';
import type { OpenModelOptions } from '../model/moe-model.js';
import { BACKENDS } from '../model/open.js';
import type { RouterOverrides } from '../router/options.js';
import { type BackendFlags, backendOptions } from './backend-options.js';
import { factorArgument, numberArgument, readOverrides } from './support.js';

/** The flags that say where the experts of a package run, and by which rule. */
export interface ModelFlags extends BackendFlags {
  readonly preset?: string;
  readonly options?: string;
  readonly capacityFactor?: number | 'none';
  readonly k?: number;
}

/** Adds those flags to a command. */
export function addModelFlags(command: Command): Command {
  return command
    .addOption(new Option('--backend <name>', 'where experts run').choices(BACKENDS).default('auto'))
    .option('--lanes <number>', 'worker threads; the number of cores where left out', numberArgument)
    .option(
      '--devices <list>',
      'of processes: where they compute, such as cpu:0,cpu:1 or cuda:0; else cpu for each lane',
    )
    .addOption(
      new Option(
        '--one-process-per <what>',
        'of processes: expert (default on a CPU) or device (default elsewhere)',
      ).choices(['expert', 'device']),
    )
    .option(
      '--replicas <number>',
      'lanes of threads (default all) or devices of processes (default 1) that hold each expert',
      numberArgument,
    )
    .option(
      '--placement <file>',
      'of processes: lanes as turnout plan --json prints them, instead of --devices; - for standard input',
    )
    .addOption(
      new Option(
        '--on-lost-expert <what>',
        'of processes: fail (default), or drop the tokens of an expert that cannot be had',
      ).choices(['fail', 'drop']),
    )
    .addOption(
      new Option('--residency <kind>', 'of the weights').choices(['packed', 'mapped']).default('packed'),
    )
    .option('-p, --preset <name>', 'another rule for all layers')
    .option('-o, --options <json>', 'a JSON file, or JSON itself: options over the rule')
    .option('-k, --k <number>', 'choices per token', numberArgument)
    .option('-c, --capacity-factor <number>', 'another capacity factor; none for dropless', factorArgument);
}

/** Where experts run, and the rule. Throws what is wrong with the flags. */
export async function modelOptions(flags: ModelFlags): Promise<OpenModelOptions> {
  const { preset, k, capacityFactor } = flags;
  const options =
    flags.options === undefined ? undefined : ((await readOverrides(flags.options)) as RouterOverrides);
  const router: RouterChoice = {
    ...(preset !== undefined && { preset }),
    ...(options && { options }),
    k,
    capacityFactor,
  };
  return { ...(await backendOptions(flags)), router };
}
