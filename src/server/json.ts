import { TurnoutError } from '../errors.js';

/** Lists and objects inside one another: nothing that an endpoint takes comes near. */
const MAX_JSON_DEPTH = 32;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/**
 * Bytes -> the JSON value in them. Nothing is repaired: bytes that are not UTF-8 and nesting beyond 32 levels are errors.
 * `JSON.parse` makes `__proto__` a plain field, and the schemas know no such field. Throws TURNOUT_REQUEST_INVALID.
 */
export function parseJson(bytes: Uint8Array): unknown {
  if (bytes.length === 0) throw invalid('expected JSON, got an empty body');
  const depth = deepest(bytes);
  if (depth > MAX_JSON_DEPTH) {
    throw invalid(`expected at most ${MAX_JSON_DEPTH} levels of nesting in the JSON, got ${depth} or more`);
  }
  const text = decode(bytes);
  try {
    return JSON.parse(text);
  } catch (error) {
    throw invalid(`the body is no JSON: ${(error as Error).message.slice(0, 200)}`);
  }
}

function decode(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw invalid('the JSON of the body is not valid UTF-8');
  }
}

/** How deep arrays and objects are nested, counted up to just above the limit. */
function deepest(bytes: Uint8Array): number {
  let depth = 0;
  let most = 0;
  let quoted = false;
  for (let i = 0; i < bytes.length && most <= MAX_JSON_DEPTH; i++) {
    const byte = bytes[i]!;
    if (byte === QUOTE) quoted = !quoted;
    else if (quoted) {
      if (byte === BACKSLASH) i++;
    } else if (byte === 0x5b || byte === 0x7b) most = Math.max(most, ++depth);
    else if (byte === 0x5d || byte === 0x7d) depth--;
  }
  return most;
}

function invalid(message: string): TurnoutError {
  return new TurnoutError('TURNOUT_REQUEST_INVALID', message);
}
