import { describe, expect, it } from 'vitest';
import { type Cluster, layOut } from '#turnout/server/dashboard/tokens.js';

/** The tokens of bytes, as the server tells them. */
const tokensOf = (bytes: Iterable<number>) =>
  Array.from(bytes, (id) => {
    const hex = `\\x${id.toString(16).padStart(2, '0')}`;
    return { id, text: id === 256 ? '' : id < 0x80 ? String.fromCharCode(id) : hex, logprob: null };
  });
const tokensOfText = (text: string) => tokensOf(new TextEncoder().encode(text));

const shown = (clusters: readonly Cluster[]) =>
  clusters.map(({ character, glyphs }) => character ?? glyphs.map(({ show }) => show).join(''));

describe('the tokens of a text', () => {
  it('stand in their order, each once', () => {
    const tokens = tokensOfText('a \u00fc\u65e5\ud83d\ude80\nb');
    const glyphs = layOut(tokens)
      .flat()
      .flatMap((cluster) => cluster.glyphs);
    expect(glyphs.map(({ index }) => index)).toEqual(tokens.map((_, index) => index));
  });

  it('are one cluster where they are one character', () => {
    const clusters = layOut(tokensOfText('a\u00fc\u65e5\ud83d\ude80')).flat();
    expect(shown(clusters)).toEqual(['a', '\u00fc', '\u65e5', '\ud83d\ude80']);
    expect(clusters.map(({ glyphs }) => glyphs.length)).toEqual([1, 2, 3, 4]);
  });

  it('stay bytes where they are no character', () => {
    // Cut short, overlong, a surrogate, a lone continuation, above U+10FFFF.
    for (const bytes of [[0xe6, 0x97], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0x80], [0xf5, 0x80, 0x80, 0x80]]) {
      const hex = bytes.map((byte) => byte.toString(16).toUpperCase());
      expect(shown(layOut(tokensOf(bytes)).flat())).toEqual(hex);
    }
    expect(shown(layOut(tokensOf([0xe6, 0x41])).flat())).toEqual(['E6', 'A']);
  });

  it('have a sign where they cannot be seen', () => {
    expect(shown(layOut(tokensOf([256, 32, 9, 10, 0, 127])).flat())).toEqual([
      '\u22a2',
      '\u00b7',
      '\u21e5',
      '\u21b5',
      '\u00bf00',
      '\u00bf7F',
    ]);
  });

  it('break after spaces and lines, and within long words', () => {
    const words = layOut(tokensOfText(`in the\nend ${'x'.repeat(20)}`)).map((word) => shown(word).join(''));
    expect(words).toEqual(['in\u00b7', 'the\u21b5', 'end\u00b7', 'x'.repeat(16), 'xxxx']);
  });
});
