import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Row } from '../../../dist/bench/routing/report-schema.js';
import { openFinished } from '../../../dist/bench/routing/resume.js';
import { sweep } from '../../../dist/bench/routing/sweep.js';
import { openSynthetic } from '../../../dist/bench/routing/synthetic.js';
import { temporaryFolder } from '../../support/babel.js';
import { chosen } from '../../support/bench.js';

const source = openSynthetic({ shape: 'zipf', experts: 8, tokens: 128, window: 32, perCall: 2, seed: 0 });
const combinations = chosen(source, { presets: 'mixtral', factors: '1,none', scopes: 'request,call' }).all;
const options = { source, combinations, baseline: undefined, repeats: 1 };

describe('a sweep that is resumed', () => {
  it('skips finished rows, and gives what a whole one gives', async () => {
    const file = join(temporaryFolder(), 'rows.jsonl');
    const controller = new AbortController();
    const first = await openFinished(file, 'inputs');
    const onRow = async (row: Row) => {
      await first.add(row);
      if (readFileSync(file, 'utf8').split('\n').length === 7) controller.abort();
    };
    const cut = sweep({ ...options, signal: controller.signal, onRow });
    await expect(cut).rejects.toMatchObject({ code: 'TURNOUT_ABORTED' });
    const kept = await openFinished(file, 'inputs');
    expect([...kept.rows.keys()]).toEqual(combinations.slice(0, 5).map(({ id }) => id));

    const added: string[] = [];
    const resumed = await sweep({
      ...options,
      finished: kept.rows,
      onRow: async ({ id }) => void added.push(id),
    });
    expect(added).toEqual(combinations.slice(5).map(({ id }) => id));
    const figures = ({ times: _, ...row }: Row) => row;
    expect(resumed.rows.map(figures)).toEqual((await sweep(options)).rows.map(figures));
    // Those of the first run have the times of the first run.
    expect(resumed.rows[0]!.times).toEqual(kept.rows.get(combinations[0]!.id)!.times);
  });

  it('leaves out a line that was cut off, and goes on behind it', async () => {
    const file = join(temporaryFolder(), 'rows.jsonl');
    const { rows } = await sweep(options);
    const first = await openFinished(file, 'inputs');
    await first.add(rows[0]!);
    appendFileSync(file, JSON.stringify(rows[1]).slice(0, 100));
    const second = await openFinished(file, 'inputs');
    expect([...second.rows.values()]).toEqual([rows[0]]);
    await second.add(rows[1]!);
    expect([...(await openFinished(file, 'inputs')).rows.values()]).toEqual(rows.slice(0, 2));
  });

  it.each([
    [
      'other inputs',
      '{"format":"turnout-bench-routing-rows","version":1,"inputs":"others"}\n',
      'other inputs',
    ],
    ['another kind', '{"format":"turnout-recording"}\n', 'expected rows of turnout bench routing'],
    ['no JSON', 'notes\n', 'expected rows of turnout bench routing'],
    [
      'rows of another shape',
      '{"format":"turnout-bench-routing-rows","version":1,"inputs":"inputs"}\n{"id":1}\n',
      '--resume: at',
    ],
  ])('refuses a file of %s, and leaves it as it is', async (_, text, named) => {
    const file = join(temporaryFolder(), 'rows.jsonl');
    writeFileSync(file, text);
    await expect(openFinished(file, 'inputs')).rejects.toMatchObject({
      code: 'TURNOUT_INPUT_INVALID',
      message: expect.stringContaining(named),
    });
    expect(readFileSync(file, 'utf8')).toBe(text);
  });

  it('refuses a path that cannot be written', async () => {
    const refused = openFinished('/nowhere/rows.jsonl', 'inputs');
    await expect(refused).rejects.toMatchObject({ code: 'TURNOUT_FILE_MISSING' });
  });
});
