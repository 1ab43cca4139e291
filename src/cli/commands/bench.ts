import { Command } from 'commander';
import { inHugePages } from '../huge-pages.js';
import { benchLayerCommand } from './bench-layer.js';
import { benchRoutingCommand } from './bench-routing.js';
import { benchScaleCommand } from './bench-scale.js';
import { benchServerCommand } from './bench-server.js';
import { benchStartupCommand } from './bench-startup.js';

/** `turnout bench`: what rules and lanes come to on this machine. */
export const benchCommand = new Command('bench')
  .description('Measure and compare on this machine.')
  .hook('preAction', (_, command) => {
    // `bench startup` takes a list, and gives each of them processes of its own.
    const { residency } = command.opts<{ readonly residency?: string }>();
    return inHugePages(residency === 'mapped' ? 'mapped' : 'packed', { child: true });
  })
  .addCommand(benchLayerCommand)
  .addCommand(benchRoutingCommand)
  .addCommand(benchScaleCommand)
  .addCommand(benchServerCommand)
  .addCommand(benchStartupCommand);
