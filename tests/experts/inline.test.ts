import { openInline } from '#turnout/experts/inline.js';
import { backendContract } from '../contracts/backend.contract.js';

backendContract('inline', openInline);
