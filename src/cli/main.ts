#!/usr/bin/env node
import { Command } from 'commander';

const program = new Command('turnout').description('Mixture-of-Experts routing on ONNX Runtime.');

await program.parseAsync();
