import { openProcesses } from '#turnout/experts/processes.js';
import { backendContract } from '../contracts/backend.contract.js';

backendContract('processes', (files, options) => openProcesses(files, options));
