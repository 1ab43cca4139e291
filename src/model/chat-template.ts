import { Template } from '@huggingface/jinja';
import { TurnoutError } from '../errors.js';
import type { Manifest } from './manifest.js';

/** One message of a chat. */
export interface ChatMessage {
  readonly role: string;
  readonly content: string;
}

/**
 * The chat template of a package, which makes a prompt of messages; undefined where it has none. Templates are Jinja, as
 * Hugging Face's tokenizers have them, with `messages` and `add_generation_prompt`; byte tokenizers have no `bos_token`.
 * Throws TURNOUT_MANIFEST_INVALID; the function throws TURNOUT_INPUT_INVALID where the template refuses the messages.
 */
export function chatTemplate({
  chatTemplate: source,
}: Manifest): ((messages: readonly ChatMessage[]) => string) | undefined {
  if (source === undefined) return undefined;
  const template = parse(source);
  return (messages) => {
    try {
      return template.render({ messages, add_generation_prompt: true, bos_token: '', eos_token: '' });
    } catch (cause) {
      const message = `the chat template refuses the messages: ${(cause as Error).message}`;
      throw new TurnoutError('TURNOUT_INPUT_INVALID', message, { param: 'messages' }, { cause });
    }
  };
}

function parse(source: string): Template {
  try {
    return new Template(source);
  } catch (cause) {
    const message = `manifest.json: chatTemplate: ${(cause as Error).message}`;
    throw new TurnoutError('TURNOUT_MANIFEST_INVALID', message, {}, { cause });
  }
}
