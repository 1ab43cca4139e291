/** Bytes of UTF-8 as token ids 0 .. 255; ids above mean nothing in text. */
export function encodeBytes(text: string): number[] {
  return [...new TextEncoder().encode(text)];
}

/**
 * Bytes -> text in whole characters: an unfinished character is held back until its last byte, bytes that are not UTF-8
 * become U+FFFD. Text that may be the beginning of a stop string is held back as well. A character that the stream ends
 * within is left out: its bytes are no text yet.
 */
export class TextStream {
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  #held = '';

  constructor(readonly stops: readonly string[] = []) {}

  /** The text that one more byte completes. After `stopped` nothing may be pushed. */
  push(byte: number): { text: string; stopped: boolean } {
    return this.#take(this.#decoder.decode(Uint8Array.of(byte), { stream: true }));
  }

  /** What is held back of whole characters, at the end of the stream. */
  end(): string {
    return this.#held;
  }

  #take(more: string): { text: string; stopped: boolean } {
    this.#held += more;
    const at = this.stops.map((stop) => this.#held.indexOf(stop)).filter((index) => index >= 0);
    if (at.length > 0) return { text: this.#held.slice(0, Math.min(...at)), stopped: true };
    const keep = Math.max(0, ...this.stops.map((stop) => overlap(this.#held, stop)));
    const text = this.#held.slice(0, this.#held.length - keep);
    this.#held = this.#held.slice(this.#held.length - keep);
    return { text, stopped: false };
  }
}

/** Length of the longest end of `text` that begins `stop`. */
function overlap(text: string, stop: string): number {
  for (let length = Math.min(text.length, stop.length - 1); length > 0; length--) {
    if (text.endsWith(stop.slice(0, length))) return length;
  }
  return 0;
}
