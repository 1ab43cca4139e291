import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { TurnoutError } from '../../src/errors.js';
import { readPackage } from '../../src/model/package.js';

/** Bytes of the prompts, in turn: some fit one chunk of a step, some need several. */
const LENGTHS = [16, 48, 24, 96, 40, 160, 64, 32, 256, 56] as const;

export interface PromptsWanted {
  readonly count: number;
  /** Of the answers: prompts leave room for them. */
  readonly tokens: number;
}

/**
 * Pieces of a package's held-out texts, of differing lengths, the texts in turn; of a text made up where it has none.
 * Throws TURNOUT_OPTIONS_INVALID where the answers leave no room for a prompt.
 */
export async function heldOutPrompts(folder: string, { count, tokens }: PromptsWanted): Promise<string[]> {
  const { manifest } = await readPackage(folder);
  const room = manifest.sizes.context - tokens - 1;
  if (room < 1) {
    const message = `--tokens: expected at most ${manifest.sizes.context - 2} for the context of ${manifest.name}, got ${tokens}`;
    throw new TurnoutError('TURNOUT_OPTIONS_INVALID', message, { tokens, context: manifest.sizes.context });
  }
  const files = Object.values(manifest.heldOut ?? {});
  const read = await Promise.all(files.map((file) => readFile(join(folder, file), 'utf8')));
  const texts = read.length > 0 ? read : [MADE_UP];
  return Array.from({ length: count }, (_, i) => {
    const text = texts[i % texts.length]!;
    const from = Math.floor((text.length * (i + 1)) / (count + 2));
    return pieceOf(text, from, Math.min(room, LENGTHS[i % LENGTHS.length]!));
  });
}

const MADE_UP = Array.from({ length: 400 }, (_, i) => `Line ${i} says ${i * i} in words of its own.\n`).join(
  '',
);

/** Whole characters from the next line on, of about `bytes` bytes. */
function pieceOf(text: string, from: number, bytes: number): string {
  const begin = text.indexOf('\n', from) + 1;
  let piece = '';
  for (const character of text.slice(begin, begin + bytes)) {
    if (Buffer.byteLength(piece + character) > bytes) break;
    piece += character;
  }
  return piece;
}
