import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { TurnoutError } from '../errors.js';

/*
 * A version of an expert is its files as they were when it was taken in. Every process that opens it later, after a
 * death too, must find those same files: a layer call never mixes two versions. So files are replaced by renaming
 * others over them or, better, stand beside them under another name; never are they written in place.
 */

/** Path -> what tells its file from any other: file system, inode, length and time of the last write. */
export type Marks = Record<string, string>;

/** Throws TURNOUT_FILE_MISSING. */
export async function marksOf(paths: readonly string[]): Promise<Marks> {
  return Object.fromEntries(await Promise.all(paths.map(async (path) => [path, await markOf(path)])));
}

/** Throws TURNOUT_EXPERT_CHANGED where a file is not the one of its mark, and TURNOUT_FILE_MISSING. */
export async function checkMarks(marks: Marks): Promise<void> {
  for (const [path, mark] of Object.entries(marks)) {
    if ((await markOf(path)) === mark) continue;
    const message = `${path}: expected the file that was there when the expert was opened, it was replaced or written to since`;
    throw new TurnoutError('TURNOUT_EXPERT_CHANGED', message, { file: path });
  }
}

/** A file of a new version, with its SHA-256 in hexadecimal. */
export interface SummedFile {
  readonly path: string;
  readonly sha256: string;
}

/** Throws TURNOUT_OPTIONS_INVALID where a file has no path or no sum. */
export function checkSummed(file: SummedFile, where: string): void {
  const ok = typeof file?.path === 'string' && /^[0-9a-f]{64}$/i.test(String(file.sha256));
  if (ok) return;
  const message = `${where}: expected {path, sha256} with 64 hexadecimal digits, got ${JSON.stringify(file)}`;
  throw new TurnoutError('TURNOUT_OPTIONS_INVALID', message);
}

/** Throws TURNOUT_EXPERT_CHANGED where the bytes of a file do not have this SHA-256 (hexadecimal). */
export async function checkSum(path: string, expected: string): Promise<void> {
  const got = await sha256Of(path);
  if (got === expected.toLowerCase()) return;
  const message = `${path}: expected sha256 ${expected}, got ${got}`;
  throw new TurnoutError('TURNOUT_EXPERT_CHANGED', message, { file: path, expected, got });
}

/** SHA-256 of a file of any length, in hexadecimal. */
export async function sha256Of(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

async function markOf(path: string): Promise<string> {
  const info = await stat(path).catch(() => undefined);
  if (!info?.isFile()) {
    throw new TurnoutError('TURNOUT_FILE_MISSING', `expected a file of an expert at ${path}`, { file: path });
  }
  return [info.dev, info.ino, info.size, info.mtimeMs].join(' ');
}
