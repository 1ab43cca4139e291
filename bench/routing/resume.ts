import { appendFile, readFile, writeFile } from 'node:fs/promises';
import { TurnoutError } from '../../src/errors.js';
import { checkRow, type Row } from './report-schema.js';

const FORMAT = { format: 'turnout-bench-routing-rows', version: 1 } as const;

/** Rows that are finished, as JSON lines in a file: the first line says what they are of. */
export interface Finished {
  readonly rows: ReadonlyMap<string, Row>;
  add(row: Row): Promise<void>;
}

/**
 * Reads the file, or begins it where it is not there. A line that was cut off by the end of a run is left out. Throws
 * TURNOUT_INPUT_INVALID for a file of other inputs, or of another kind.
 */
export async function openFinished(path: string, inputs: string): Promise<Finished> {
  const head = `${JSON.stringify({ ...FORMAT, inputs })}\n`;
  const text = await readIfThere(path);
  const [first = '', ...lines] = text.split('\n');
  if (text === '') await write(path, () => writeFile(path, head));
  else checkHead(path, first, inputs);
  const cut = text !== '' && !text.endsWith('\n');
  if (cut) await write(path, () => appendFile(path, '\n'));
  const rows = lines.flatMap((line) => parseRow(line));
  return {
    rows: new Map(rows.map((row) => [row.id, row])),
    add: (row) => write(path, () => appendFile(path, `${JSON.stringify(row)}\n`)),
  };
}

async function readIfThere(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw unusable(path, error);
  }
}

async function write(path: string, act: () => Promise<void>): Promise<void> {
  await act().catch((error: unknown) => {
    throw unusable(path, error);
  });
}

function unusable(path: string, cause: unknown): TurnoutError {
  const message = `--resume: cannot use ${path}: ${(cause as Error).message}`;
  return new TurnoutError('TURNOUT_FILE_MISSING', message, { path }, { cause });
}

function checkHead(path: string, line: string, inputs: string): void {
  const head = parse(line) as { format?: unknown; version?: unknown; inputs?: unknown } | undefined;
  const problem =
    head?.format !== FORMAT.format || head.version !== FORMAT.version
      ? 'expected rows of turnout bench routing'
      : head.inputs === inputs
        ? undefined
        : 'its rows are of other inputs or settings; expected the same as now';
  if (problem) throw new TurnoutError('TURNOUT_INPUT_INVALID', `--resume: ${path}: ${problem}`, { path });
}

function parseRow(line: string): Row[] {
  const value = parse(line);
  return value === undefined ? [] : [checkRow(value)];
}

/** undefined for what is no JSON. */
function parse(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}
