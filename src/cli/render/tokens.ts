import { DROP_REASONS, type Routing } from '../../router/routing.js';
import type { Style } from './style.js';

/** Columns of text in a line. */
const WIDTH = 72;

/** A character of the text and the tokens (bytes) that make it. */
interface Cell {
  readonly shown: string;
  readonly width: number;
  readonly tokens: readonly number[];
}

/**
 * The text in lines, and under each line the expert that every token took first, layer by layer: a digit or letter for
 * each byte, '-' where all its choices were dropped. `bytes` are the ids of tokens 0 .. n - 1 of the routing.
 */
export function drawTokens(bytes: readonly number[], layers: readonly Routing[], style: Style): string {
  const firsts = layers.map((layer) => firstExperts(layer));
  const label = String(layers.length - 1).length + 1;
  const lines: string[] = [];
  for (const line of wrap(cells(bytes))) {
    const text = line.map((cell) => cell.shown + ' '.repeat(span(cell) - cell.width)).join('');
    lines.push(`${' '.repeat(label)}  ${style.bold(text)}`);
    firsts.forEach((experts, l) => {
      const marks = line.map((cell) => {
        const own = cell.tokens.map((token) => mark(experts[token], style)).join('');
        return own + ' '.repeat(span(cell) - cell.tokens.length);
      });
      lines.push(`${style.dim(`L${l}`.padStart(label))}  ${marks.join('')}`);
    });
  }
  return lines.join('\n');
}

/** One line for each token and layer: all its choices with weights, and what became of them. */
export function drawTokenTable(bytes: readonly number[], layers: readonly Routing[]): string {
  const shown = bytes.map((byte, token) => `${String(token).padStart(5)}  ${showByte(byte).padEnd(6)}`);
  return shown
    .flatMap((start, token) =>
      layers.map((layer, l) => `${l === 0 ? start : ' '.repeat(13)}  L${l}  ${choices(layer, token)}`),
    )
    .join('\n');
}

function choices(routing: Routing, token: number): string {
  const parts: string[] = [];
  for (let a = routing.token.indexOf(token); a >= 0 && routing.token[a] === token; a++) {
    const reason = DROP_REASONS[routing.reason[a]!]!;
    const outcome = reason === 'kept' ? routing.weight[a]!.toFixed(3) : `dropped (${reason})`;
    parts.push(`expert ${String(routing.expert[a]).padStart(2)} ${outcome}`);
  }
  return parts.join('   ');
}

/** [T] the expert of the first kept choice; -1 where none was kept, undefined where there was no choice. */
function firstExperts(routing: Routing): (number | undefined)[] {
  const experts: (number | undefined)[] = [];
  for (let a = 0; a < routing.token.length; a++) {
    const token = routing.token[a]!;
    if (routing.reason[a] !== 0) experts[token] ??= -1;
    else if (experts[token] === undefined || experts[token] === -1) experts[token] = routing.expert[a]!;
  }
  return experts;
}

function mark(expert: number | undefined, style: Style): string {
  if (expert === undefined) return ' ';
  if (expert < 0) return '-';
  return style.category(expert < 36 ? expert.toString(36) : '+', expert);
}

/** Bytes -> characters with the tokens that make them. Control characters and bytes that are not UTF-8 are shown as symbols. */
function cells(bytes: readonly number[]): Cell[] {
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  const found: Cell[] = [];
  let tokens: number[] = [];
  bytes.forEach((byte, token) => {
    if (byte > 255) {
      found.push({ shown: '▸', width: 1, tokens: [token] });
      return;
    }
    tokens.push(token);
    const text = decoder.decode(Uint8Array.of(byte), { stream: true });
    if (text === '') return;
    found.push({ shown: visible(text), width: widthOf(visible(text)), tokens });
    tokens = [];
  });
  if (tokens.length > 0) found.push({ shown: '\uFFFD', width: 1, tokens });
  return found;
}

function visible(text: string): string {
  if (text === '\n') return '↵';
  if (text === '\t') return '→';
  return text.replace(/[\p{Cc}\p{Cf}\p{Mn}\p{Me}]/gu, '·');
}

/** Columns of a terminal: two for the wide characters of East Asian scripts and for emoji. */
function widthOf(text: string): number {
  let width = 0;
  for (const character of text) {
    width +=
      /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|\p{Emoji_Presentation}/u.test(
        character,
      )
        ? 2
        : 1;
  }
  return width;
}

function span(cell: Cell): number {
  return Math.max(cell.width, cell.tokens.length);
}

function wrap(all: readonly Cell[]): Cell[][] {
  const lines: Cell[][] = [];
  let line: Cell[] = [];
  let width = 0;
  for (const cell of all) {
    if (width + span(cell) > WIDTH) {
      lines.push(line);
      line = [];
      width = 0;
    }
    line.push(cell);
    width += span(cell);
  }
  return line.length > 0 ? [...lines, line] : lines;
}

function showByte(byte: number): string {
  if (byte > 255) return '<s>';
  return byte >= 33 && byte < 127 ? String.fromCharCode(byte) : `x${byte.toString(16).padStart(2, '0')}`;
}
