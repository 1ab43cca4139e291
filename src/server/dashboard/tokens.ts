import type { TraceToken } from './api.js';

/** A token as it is shown. */
export interface Glyph {
  readonly index: number;
  /** What stands in the chip. */
  readonly show: string;
  /** How it is called aloud. */
  readonly name: string;
}

/** Tokens that belong together: one token, or the bytes of one character. */
export interface Cluster {
  /** The character, where it takes several tokens. */
  readonly character?: string;
  readonly glyphs: readonly Glyph[];
  readonly breaksLine: boolean;
}

/** The token that begins and ends documents. */
const SPECIAL = 256;
const NAMES: Readonly<Record<string, readonly [show: string, name: string]>> = {
  ' ': ['\u00b7', 'space'],
  '\n': ['\u21b5', 'line end'],
  '\t': ['\u21e5', 'tab'],
  '\r': ['\u240d', 'carriage return'],
};

/** Words of clusters: a line may break between words. */
export function layOut(tokens: readonly TraceToken[]): Cluster[][] {
  const words: Cluster[][] = [[]];
  for (const cluster of clusters(tokens)) {
    const own = cluster.character !== undefined || cluster.breaksLine;
    if (own && words.at(-1)!.length > 0 && !cluster.breaksLine) words.push([]);
    words.at(-1)!.push(cluster);
    const { show } = cluster.glyphs.at(-1)!;
    if (own || show === NAMES[' ']![0] || words.at(-1)!.length >= 16) words.push([]);
  }
  return words.filter((word) => word.length > 0);
}

function clusters(tokens: readonly TraceToken[]): Cluster[] {
  const result: Cluster[] = [];
  for (let i = 0; i < tokens.length; ) {
    const length = characterLength(tokens, i);
    const part = tokens.slice(i, i + length);
    const glyphs = part.map((token, j) => glyphOf(token, i + j));
    const character = length > 1 ? decode(part.map((token) => byteOf(token)!)) : undefined;
    const breaksLine = tokens[i]!.text === '\n';
    result.push(character === undefined ? { glyphs, breaksLine } : { glyphs, breaksLine, character });
    i += length;
  }
  return result;
}

/** Tokens of the UTF-8 character that begins at `at`; 1 where its bytes are no whole character. */
function characterLength(tokens: readonly TraceToken[], at: number): number {
  const lead = byteOf(tokens[at]!);
  const length =
    lead === undefined || lead < 0xc2 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 1;
  if (length === 1) return 1;
  const all = tokens.slice(at, at + length).map(byteOf);
  if (all.length < length || all.includes(undefined)) return 1;
  return decode(all as number[]) === undefined ? 1 : length;
}

function decode(all: readonly number[]): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Uint8Array.from(all));
  } catch {
    return undefined;
  }
}

/** The byte of a token that is written as `\xNN`. */
function byteOf({ text }: TraceToken): number | undefined {
  const hex = /^(?:bytes:)?\\x([0-9a-f]{2})$/i.exec(text)?.[1];
  return hex === undefined ? undefined : Number.parseInt(hex, 16);
}

function glyphOf(token: TraceToken, index: number): Glyph {
  if (token.id === SPECIAL || token.text === '') return { index, show: '\u22a2', name: 'begin or end' };
  const byte = byteOf(token);
  if (byte !== undefined) {
    const hex = byte.toString(16).padStart(2, '0').toUpperCase();
    return { index, show: hex, name: `byte ${hex}` };
  }
  const named = NAMES[token.text];
  if (named) return { index, show: named[0], name: named[1] };
  const code = token.text.length === 1 ? token.text.charCodeAt(0) : 0x20;
  if (code < 0x20 || code === 0x7f) {
    const hex = code.toString(16).padStart(2, '0').toUpperCase();
    return { index, show: `\u00bf${hex}`, name: `control character ${hex}` };
  }
  return { index, show: token.text, name: token.text };
}
