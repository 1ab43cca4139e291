import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeBytes, TextStream } from '#turnout/model/tokenizer.js';

const stream = (bytes: Iterable<number>, stops: string[] = []) => {
  const text = new TextStream(stops);
  const pieces: string[] = [];
  for (const byte of bytes) {
    const { text: piece, stopped } = text.push(byte);
    pieces.push(piece);
    if (stopped) return { pieces, stopped };
  }
  return { pieces: [...pieces, text.end()], stopped: false };
};

describe('TextStream', () => {
  it('gives back any text, in whole characters', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (text) => {
        fc.pre(!text.includes('\uFFFD'));
        const { pieces } = stream(encodeBytes(text));
        expect(pieces.join('')).toBe(text);
        for (const piece of pieces) expect(piece).not.toContain('\uFFFD');
      }),
    );
  });

  it('holds a character back until its last byte', () => {
    expect(stream(encodeBytes('é日😀')).pieces).toEqual(['', 'é', '', '', '日', '', '', '', '😀', '']);
  });

  it('keeps a byte order mark, and turns bytes that are not UTF-8 into U+FFFD', () => {
    expect(stream([0xef, 0xbb, 0xbf, 0x61]).pieces.join('')).toBe('\uFEFFa');
    expect(stream([0x61, 0xff, 0x62]).pieces.join('')).toBe('a\uFFFDb');
    expect(stream([0x61, 0xe6, 0x97, 0x62]).pieces.join('')).toBe('a\uFFFDb');
  });

  it('leaves out a character that it ends within', () => {
    expect(stream([0x61, 0xe6, 0x97]).pieces.join('')).toBe('a');
  });

  it('ends before the first stop text and never shows a part of it', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom('a', 'b') }),
        fc.array(fc.string({ unit: fc.constantFrom('a', 'b'), minLength: 1 }), {
          minLength: 1,
          maxLength: 3,
        }),
        (text, stops) => {
          const at = firstStop(text, stops);
          const { pieces, stopped } = stream(encodeBytes(text), stops);
          expect(stopped).toBe(at >= 0);
          expect(pieces.join('')).toBe(at < 0 ? text : text.slice(0, at));
        },
      ),
    );
  });
});

/** Start of the stop text that is complete first, the longest where several end together. */
function firstStop(text: string, stops: readonly string[]): number {
  for (let end = 1; end <= text.length; end++) {
    const starts = stops.filter((stop) => text.slice(0, end).endsWith(stop)).map((stop) => end - stop.length);
    if (starts.length > 0) return Math.min(...starts);
  }
  return -1;
}
