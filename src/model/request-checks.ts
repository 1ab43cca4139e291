import { TurnoutError } from '../errors.js';
import type { Program } from './program.js';
import type { SequenceRequest } from './sequence.js';

/** Throws TURNOUT_INPUT_INVALID, TURNOUT_CONTEXT_EXCEEDED or TURNOUT_ROUTER_NOT_CAUSAL for what a program cannot take. */
export function checkRequest(
  { manifest, layers }: Program,
  { tokens, maxTokens, sampler }: SequenceRequest,
): void {
  const { vocabulary, context } = manifest.sizes;
  const wrong = tokens.find((token) => !Number.isInteger(token) || token < 0 || token >= vocabulary);
  if (tokens.length === 0 || wrong !== undefined) {
    const got = tokens.length === 0 ? 'none' : String(wrong);
    throw new TurnoutError(
      'TURNOUT_INPUT_INVALID',
      `expected token ids from 0 to ${vocabulary - 1}, at least one, got ${got}`,
    );
  }
  if (!Number.isInteger(maxTokens) || maxTokens < 0) {
    throw new TurnoutError(
      'TURNOUT_INPUT_INVALID',
      `expected maxTokens to be a whole number from 0, got ${maxTokens}`,
    );
  }
  const length = tokens.length + maxTokens;
  if (length > context) {
    throw new TurnoutError(
      'TURNOUT_CONTEXT_EXCEEDED',
      `the prompt has ${tokens.length} tokens and ${maxTokens} are asked for: ${length}, the model's context is ${context}`,
      { prompt: tokens.length, maxTokens, context },
    );
  }
  const acausal = layers.find((layer) => !layer.router.causal);
  if (acausal && sampler) {
    throw new TurnoutError(
      'TURNOUT_ROUTER_NOT_CAUSAL',
      `${acausal.name}: ${acausal.router.notCausalBecause}`,
    );
  }
}
