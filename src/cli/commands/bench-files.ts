import { constants } from 'node:fs';
import { access, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { TurnoutError } from '../../errors.js';

/** A bench takes minutes: whether its report can be written is asked before. Throws TURNOUT_FILE_MISSING. */
export async function checkFolder(path: string): Promise<void> {
  await access(dirname(path), constants.W_OK).catch((cause: Error) => {
    throw unwritable(path, cause);
  });
}

/** Throws TURNOUT_FILE_MISSING. */
export async function writeOut(path: string, text: string): Promise<void> {
  await writeFile(path, text).catch((cause: Error) => {
    throw unwritable(path, cause);
  });
}

function unwritable(path: string, cause: Error): TurnoutError {
  const message = `cannot write ${path}: ${cause.message}`;
  return new TurnoutError('TURNOUT_FILE_MISSING', message, { path }, { cause });
}
