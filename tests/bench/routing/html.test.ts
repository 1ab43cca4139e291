import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { COLUMNS, columnOf, sortRows } from '../../../dist/bench/routing/columns.js';
import { costOfSize } from '../../../dist/bench/routing/cost.js';
import { drawHtml } from '../../../dist/bench/routing/html.js';
import type { Report } from '../../../dist/bench/routing/report-schema.js';
import { openSynthetic } from '../../../dist/bench/routing/synthetic.js';
import { drawTable } from '../../../dist/bench/routing/table.js';
import { openText } from '../../../dist/bench/routing/text-source.js';
import { BABEL, temporaryFolder } from '../../support/babel.js';
import { benchRouting } from '../../support/bench.js';
import { LOW_CONTRAST, launchBrowser, noBrowser, watchedPage } from '../../support/browser.js';

const FLAGS = { presets: 'trained,gshard,switch,expert-choice', factors: '1,2,none', overflows: 'drop' };
let text: Report;
let logits: Report;
beforeAll(async () => {
  const source = await openText({
    folder: BABEL,
    tokens: 32,
    window: 16,
    perCall: 4,
    model: { backend: 'inline' },
  });
  text = await benchRouting(source, FLAGS);
  await source.close();
  const cost = costOfSize({ hidden: 4, inner: 8, activation: 'gated' });
  const made = openSynthetic({
    shape: 'zipf',
    experts: 8,
    tokens: 64,
    window: 32,
    perCall: 1,
    seed: 0,
    cost,
  });
  logits = await benchRouting(made, { ...FLAGS, presets: 'gshard,switch' });
}, 60_000);

describe('the HTML report', () => {
  it('holds its four plots, every row and what it was measured on; nothing is loaded', () => {
    const html = drawHtml(text, columnOf('change'));
    for (const heading of [
      'Quality and cost',
      'Quality by domain',
      'Drops by capacity factor',
      'Load curves',
    ])
      expect(html).toContain(`<h2>${heading}</h2>`);
    expect(html.match(/<tr[ >]/g)!.length).toBeGreaterThan(text.rows.length);
    expect(html).toContain(text.inputs);
    expect(html).toContain('not the merit of the rule in training');
    expect(html).not.toMatch(/<script|<link|<img|@import|url\(|https?:\/\/(?!www\.w3\.org\/2000\/svg)/);
    expect(html).not.toMatch(/NaN|undefined|Infinity/);
  });

  it('leaves out plots of quality where there is none', () => {
    const html = drawHtml(logits, columnOf('drop%'));
    expect(html).not.toContain('Quality by domain');
    expect(html).toContain('<h2>Drops by capacity factor</h2>');
    expect(html).not.toMatch(/NaN|undefined|Infinity/);
  });

  it('shows names as text, whatever they are', () => {
    const hostile = structuredClone(text);
    hostile.rows[0]!.name = '<script>alert("x")</script>';
    hostile.source.package = `"'><img src=x>`;
    const html = drawHtml(hostile, columnOf('change'));
    expect(html).not.toMatch(/<script|<img/);
    expect(html).toContain('&#60;script&#62;alert');
  });
});

describe.skipIf(noBrowser)('the HTML report in Chromium', () => {
  let browser: Browser;
  beforeAll(async () => {
    browser = await launchBrowser();
  }, 60_000);
  afterAll(() => browser?.close());

  it.each(['light', 'dark'] as const)(
    'opens from a file, offline, without a complaint: %s',
    async (colorScheme) => {
      const file = join(temporaryFolder(), 'report.html');
      writeFileSync(file, drawHtml(text, columnOf('change')));
      const url = pathToFileURL(file).href;
      const { page, complaints } = await watchedPage(browser, url, { offline: true, colorScheme });
      expect(complaints).toEqual([]);
      // One dot for each row that is drawn; titles tell which.
      const drawn = await page.locator('svg[aria-label^="Bits per byte against"] circle').count();
      expect(drawn).toBeGreaterThan(text.rows.length / 2);
      expect(drawn).toBeLessThanOrEqual(text.rows.length);
      const fronts = text.rows.filter(({ onFront, baseline }) => onFront && !baseline);
      expect(await page.locator('circle.front').count()).toBeLessThanOrEqual(fronts.length);
      expect(await page.locator('circle.baseline').count()).toBe(1);
      expect(await page.locator('table').first().locator('tbody tr').count()).toBe(text.rows.length);
      // All marks lie within their plot.
      const outside =
        await page.evaluate(`[...document.querySelectorAll('section > svg circle')].filter((dot) => {
      const x = Number(dot.getAttribute('cx')), y = Number(dot.getAttribute('cy'));
      return !(x >= 60 && x <= 640 && y >= 0 && y <= 320);
    }).length`);
      expect(outside).toBe(0);
      expect(await page.evaluate(LOW_CONTRAST)).toEqual([]);
      await page.context().close();
    },
  );
});

const PLAIN = { bold: (line: string) => line, dim: (line: string) => line };

describe('the table in the terminal', () => {
  it('is sorted by any of its columns, the best first and rows without a value last', () => {
    for (const column of COLUMNS) {
      const values = sortRows(text.rows, column).map((row) => column.value(row) ?? Number.POSITIVE_INFINITY);
      const ordered = values.toSorted((a, b) => (column.descending ? b - a : a - b));
      expect(values).toEqual(ordered);
    }
    expect(() => columnOf('beauty')).toThrow(expect.objectContaining({ code: 'TURNOUT_OPTIONS_INVALID' }));
  });

  it('shows the first rows, and those of the front and the baseline with their marks in any case', () => {
    const lines = drawTable(text, { sort: columnOf('drop%'), rows: 2, ...PLAIN }).split('\n');
    const front = text.rows.filter(({ onFront }) => onFront).length;
    expect(lines.filter((line) => /^\*[~ ][ =]/.test(line))).toHaveLength(front);
    expect(lines.filter((line) => /^[* ][~ ]=trained/.test(line))).toHaveLength(1);
    expect(lines.filter((line) => /^ ~ /.test(line)).length).toBeLessThanOrEqual(2);
    expect(lines.join('\n')).toMatch(/rows, sorted by drop%/);
    expect(lines.join('\n')).toContain('not the merit of the rule in training');
    const all = drawTable(text, { sort: columnOf('change'), rows: Number.POSITIVE_INFINITY, ...PLAIN });
    expect(all.split('\n').filter((line) => /^.~ \S/.test(line))).toHaveLength(
      text.rows.filter(({ causal }) => !causal).length,
    );
  });
});
