import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readPackage } from '../../src/model/package.js';

/** Bytes of the prompts, in turn: some fit one chunk of a step, some need several. */
const LENGTHS = [16, 48, 24, 96, 40, 160, 64, 32, 256, 56] as const;

/** `count` pieces of a package's held-out texts, of differing lengths, the languages in turn. */
export async function heldOutPrompts(folder: string, count: number): Promise<string[]> {
  const { manifest } = await readPackage(folder);
  const files = Object.values(manifest.heldOut ?? {});
  const texts = await Promise.all(files.map((file) => readFile(join(folder, file), 'utf8')));
  return Array.from({ length: count }, (_, i) => {
    const text = texts[i % texts.length]!;
    const from = Math.floor((text.length * (i + 1)) / (count + 2));
    return pieceOf(text, from, LENGTHS[i % LENGTHS.length]!);
  });
}

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
