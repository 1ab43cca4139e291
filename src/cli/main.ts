#!/usr/bin/env node
import { Command } from 'commander';
import { routeCommand } from './commands/route.js';
import { runProgram } from './support.js';

const program = new Command('turnout')
  .description('Mixture-of-Experts routing on ONNX Runtime.')
  .addCommand(routeCommand);

await runProgram(program);
