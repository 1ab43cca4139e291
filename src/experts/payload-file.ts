import { closeSync, constants, fstatSync, openSync, readSync, writeSync } from 'node:fs';

/*
 * Memory that a carrier shares with one of its processes, for the numbers of one call at a time: a file of the system's
 * memory without a name. Its pages are written and read where they lie,
 * which takes half of the time of the socket's (README of bench/experts), and half of the switches between the two.
 */

/** Below this the socket is as fast. */
export const MIN_FILE_BYTES = 64 * 1024;

const FOLDER = '/dev/shm';

/** Linux: a file that never has a name. Node does not list it; where it is refused the socket carries everything. */
const O_TMPFILE = 0o20000000 | constants.O_DIRECTORY;

/** A descriptor for a process to inherit; undefined where the system has no such memory. */
export function openPayloadFile(): number | undefined {
  if (process.platform !== 'linux') return undefined;
  try {
    return openSync(FOLDER, O_TMPFILE | constants.O_RDWR, 0o600);
  } catch {
    return undefined;
  }
}

export class PayloadFile {
  readonly #fd: number;

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** Writes from byte `position` on; false where there is no room. */
  write(bytes: Uint8Array, position = 0): boolean {
    try {
      for (let at = 0; at < bytes.length; ) {
        at += writeSync(this.#fd, bytes, at, bytes.length - at, position + at);
      }
      return true;
    } catch {
      return false;
    }
  }

  /** Fills `into` from byte `position` on; false where there is less, and `into` is as it was. */
  read(into: Uint8Array, position = 0): boolean {
    if (fstatSync(this.#fd).size < position + into.length) return false;
    for (let at = 0; at < into.length; ) {
      const count = readSync(this.#fd, into, at, into.length - at, position + at);
      if (count === 0) return false;
      at += count;
    }
    return true;
  }

  close(): void {
    closeSync(this.#fd);
  }
}
