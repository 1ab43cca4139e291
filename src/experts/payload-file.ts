import { randomBytes } from 'node:crypto';
import { closeSync, openSync, readSync, unlinkSync, writeSync } from 'node:fs';

/*
 * Memory that a carrier shares with one of its processes, for the numbers of one call at a time: a file of the system's
 * memory that has lost its name before anybody else could have seen it. Its pages are written and read where they lie,
 * which takes half of the time of the socket's (README of bench/experts), and half of the switches between the two.
 */

/** Below this the socket is as fast. */
export const MIN_FILE_BYTES = 64 * 1024;

const FOLDER = '/dev/shm';

/** A descriptor for a process to inherit; undefined where the system has no such memory. */
export function openPayloadFile(): number | undefined {
  if (process.platform !== 'linux') return undefined;
  const path = `${FOLDER}/turnout-${process.pid}-${randomBytes(8).toString('hex')}`;
  try {
    const fd = openSync(path, 'wx+', 0o600);
    unlinkSync(path);
    return fd;
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

  /** Fills `into` from byte `position` on; false where there is less. */
  read(into: Uint8Array, position = 0): boolean {
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
