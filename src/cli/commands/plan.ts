import { Command } from 'commander';
import { parseDevices } from '../../experts/device.js';
import { planLanes, planPlacement } from '../../experts/plan.js';
import type { PlanOptions } from '../../experts/plan-options.js';
import { parseLoads } from '../load-input.js';
import { drawPlan } from '../render/plan.js';
import { styleOf } from '../render/style.js';
import { numberArgument, parseJson, print, readSource } from '../support.js';

interface Flags extends Omit<PlanOptions, 'devices'> {
  readonly devices: string;
  readonly shared: number;
  readonly json?: true;
}

const EXAMPLES = `
Examples:
  $ turnout run --json | turnout plan - --devices cpu:0,cpu:1 --replicas 10
  $ echo '{"loads": [[90, 5, 3, 2], [10, 40, 40, 10]]}' | turnout plan --devices cpu:0,cpu:1 --replicas 6 --json

Loads are {"loads": [L][E]}, [L][E], [E], or the kept assignments of what turnout run --json or turnout route --json
prints. Groups of consecutive experts stay on one node where --nodes divides --groups; else all devices are one node.
Experts are numbered in lanes as in a package: layer by layer, the routed ones first, then the shared ones.`;

/** `turnout plan`: measured loads in, a placement with replicas out. */
export const planCommand = new Command('plan')
  .description('Plan from measured loads which experts get replicas, and which device holds them.')
  .argument('[file]', 'JSON file with the loads; - for standard input', '-')
  .requiredOption('--devices <list>', 'one lane for each, such as cpu:0,cpu:1 or cuda:0,cuda:1')
  .option(
    '--replicas <number>',
    'slots per layer, a multiple of the devices (default: just enough)',
    numberArgument,
  )
  .option(
    '--nodes <number>',
    'nodes that the devices are on, equally many on each (default 1)',
    numberArgument,
  )
  .option('--groups <number>', 'groups of experts that stay on one node (default 1)', numberArgument)
  .option('--shared <number>', 'shared experts per layer, on every device', numberArgument, 0)
  .option('--json', 'print lanes and layers as JSON')
  .addHelpText('after', EXAMPLES)
  .action(planFile);

async function planFile(file: string, { devices: list, shared, json, ...sizes }: Flags): Promise<void> {
  const devices = parseDevices(list).map(({ name }) => name);
  if (file === '-' && process.stdin.isTTY)
    process.stderr.write('Reading JSON from the terminal; end it with Ctrl-D.\n');
  const loads = parseLoads(parseJson(await readSource(file), file === '-' ? 'standard input' : file));
  const plan = planPlacement(loads, { ...sizes, devices: devices.length });
  if (plan.policy === 'global' && (sizes.nodes ?? 1) > 1)
    process.stderr.write(
      `Planned as one node: ${sizes.nodes} nodes do not divide ${sizes.groups ?? 1} groups.\n`,
    );
  const lanes = planLanes(plan, devices, shared);
  await print(
    json ? JSON.stringify({ lanes, ...plan }, null, 2) : drawPlan(plan, lanes, styleOf(process.stdout)),
  );
}
