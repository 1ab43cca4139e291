#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import { benchCommand } from './commands/bench.js';
import { doctorCommand } from './commands/doctor.js';
import { inspectCommand } from './commands/inspect.js';
import { planCommand } from './commands/plan.js';
import { routeCommand } from './commands/route.js';
import { runCommand } from './commands/run.js';
import { serveCommand } from './commands/serve.js';
import { verifyCommand } from './commands/verify.js';
import { runProgram } from './support.js';

const HELP = `
Example:
  $ turnout run "In the beginning was the Word"

Exit codes: 0 done, 1 bad input, data or package, 2 wrong usage, 130 ended by Ctrl-C, 143 by SIGTERM.`;

const { version } = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'));

const program = new Command('turnout')
  .description('Mixture-of-Experts routing on ONNX Runtime.')
  .version(version)
  .addCommand(runCommand)
  .addCommand(serveCommand)
  .addCommand(routeCommand)
  .addCommand(planCommand)
  .addCommand(benchCommand)
  .addCommand(inspectCommand)
  .addCommand(verifyCommand)
  .addCommand(doctorCommand)
  .addHelpText('after', HELP);

await runProgram(program);
