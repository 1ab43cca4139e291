import type { Browser, Locator, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { type Server, serve } from '#turnout/server/serve.js';
import { BABEL } from '../support/babel.js';
import { LOW_CONTRAST, launchBrowser, noBrowser, watchedPage } from '../support/browser.js';

const KEY = 'a-key-of-the-dashboard-test';
const TEXT = 'def f(x):\n  return "gr\u00fcn <b>\u65e5</b>"';
const TABS = ['Routing', 'Playground', 'Compare', 'Lanes'];
const PHONE = { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true };

interface Trace {
  readonly tokens: readonly { readonly id: number }[];
  readonly prompt_tokens: number;
  /** [tokens][layers][k] */
  readonly experts: number[][][];
  readonly drops: (string | null)[][][];
  readonly waterfall: { readonly steps: readonly unknown[] };
}

let server: Server;
let browser: Browser;

beforeAll(async () => {
  server = await serve(BABEL, { server: { port: 0 } });
  if (noBrowser === undefined) browser = await launchBrowser();
  else console.warn(`no dashboard in a browser: ${noBrowser}`);
}, 60_000);
afterAll(async () => {
  await browser?.close();
  await server?.close();
});

async function post<T>(path: string, body: unknown): Promise<T> {
  const response = await fetch(server.url + path, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  expect(response.status).toBe(200);
  return (await response.json()) as T;
}

/** A page that may complain of nothing until the test is over. */
async function open(options: Parameters<typeof watchedPage>[2] = {}, url = server.url): Promise<Page> {
  const { page, complaints } = await watchedPage(browser, url, options);
  onTestFinished(async () => {
    await page.context().close();
    expect(complaints).toEqual([]);
  });
  return page;
}

const tab = (page: Page, name: string) => page.getByRole('tab', { name });

/** Routes `text` in the playground and gives the answer that the page got. */
async function play(page: Page, text: string, more = 0): Promise<Trace> {
  await tab(page, 'Playground').click();
  await page.locator('#playground-text').fill(text);
  await page.locator('#playground-more').fill(String(more));
  const answer = page.waitForResponse(/routing\/trace/);
  await page.getByRole('button', { name: 'Route' }).click();
  const trace = (await (await answer).json()) as Trace;
  await expect.poll(() => page.locator('#playground .token').count()).toBe(trace.tokens.length);
  return trace;
}

const attributes = (tokens: Locator, name: string) =>
  tokens.evaluateAll((all, attribute) => all.map((one) => one.getAttribute(attribute)), name);

const firstChoices = ({ experts, tokens }: Trace, layer: number) =>
  tokens.map((_, t) => String(experts[t]?.[layer]?.[0] ?? -1));

describe('the files of the dashboard', () => {
  const get = (path: string, headers: Record<string, string> = {}) => fetch(server.url + path, { headers });

  it('are typed, tagged and under a strict policy', async () => {
    const page = await get('/');
    const text = await page.text();
    expect(page.headers.get('content-type')).toBe('text/html; charset=utf-8');
    const policy = page.headers.get('content-security-policy')!;
    expect(policy).toContain("script-src 'self'");
    expect(policy).not.toContain('unsafe');
    const names = [...text.matchAll(/"(\/assets\/[^"]+)"/g)].map(([, name]) => name!);
    expect(names).toContain('/assets/main.js');
    for (const name of [...names, '/assets/uplot.js']) {
      const asset = await get(name);
      expect([name, asset.status]).toEqual([name, 200]);
      expect(asset.headers.get('content-type')).toMatch(
        /^(text\/(css|javascript); charset=utf-8|image\/svg\+xml)$/,
      );
      const again = await get(name, { 'if-none-match': asset.headers.get('etag')! });
      expect([name, again.status, await again.text()]).toEqual([name, 304, '']);
    }
  });

  it('are a table, not a folder', async () => {
    for (const name of [
      'package.json',
      'tsconfig.json',
      '..%2f..%2fpackage.json',
      '%2e%2e/main.js',
      'constructor',
      '',
    ]) {
      const { status } = await get(`/assets/${name}`);
      expect([name, status]).toEqual([name, 404]);
    }
  });
});

describe.skipIf(noBrowser)('the dashboard in a browser', () => {
  it('says that nothing has passed yet, then shows the loads of the engine', async () => {
    const page = await open();
    await page.getByText('No token has passed yet.').waitFor();
    await post('/v1/completions', { model: 'babel', prompt: 'In the beginning', max_tokens: 20 });
    await page.getByRole('radio', { name: 'total' }).check();
    const answer = await fetch(`${server.url}/v1/routing`);
    const { layers } = (await answer.json()) as { layers: { total: { load: number[] } }[] };
    const loads = layers.flatMap(({ total }) => total.load);
    expect(Math.max(...loads)).toBeGreaterThan(0);
    const cells = page.getByRole('gridcell');
    await expect.poll(() => attributes(cells, 'data-load')).toEqual(loads.map(String));
    const fills = (await attributes(cells, 'style')).map((style) => style!.match(/\d+/g)!.map(Number));
    const lightness = fills.map(([red, green, blue]) => 0.21 * red! + 0.72 * green! + 0.07 * blue!);
    const first = layers[0]!.total.load.map((load, expert) => ({ load, light: lightness[expert]! }));
    first.sort((a, b) => a.load - b.load || b.light - a.light);
    // In light mode more load is darker, without exception.
    expect(first.map(({ light }) => light)).toEqual(first.map(({ light }) => light).sort((a, b) => b - a));
    expect(await page.locator('#routing tbody tr').count()).toBe(layers.length);
    expect(await page.locator('.plot canvas').count()).toBe(4);
    await page.getByRole('status').getByText('Live').waitFor();
  });

  it('moves through the heat map by arrow keys, with one tab stop', async () => {
    const page = await open();
    const cells = page.getByRole('gridcell');
    await cells.first().focus();
    for (const key of ['ArrowRight', 'ArrowRight', 'ArrowDown', 'End', 'ArrowRight'])
      await page.keyboard.press(key);
    const focused = page.locator('[role=gridcell]:focus');
    expect(await focused.getAttribute('aria-label')).toMatch(/^layers\.1, expert 7: /);
    expect(await page.locator('.heat .readout').textContent()).toMatch(/^layers\.1, expert 7: /);
    expect(await page.locator('[role=gridcell][tabindex="0"]').count()).toBe(1);
  });

  it('colours each token by the expert that the trace tells, in every layer', async () => {
    const page = await open();
    const shown = await play(page, TEXT);
    const trace = await post<Trace>('/v1/routing/trace', { text: TEXT });
    expect(shown.experts).toEqual(trace.experts);
    const tokens = page.locator('#playground .token');
    for (const layer of [0, 2]) {
      await page
        .locator('#playground')
        .getByRole('radio', { name: String(layer), exact: true })
        .check();
      expect(await attributes(tokens, 'data-expert')).toEqual(firstChoices(trace, layer));
      const drops = trace.drops.map((perLayer) => perLayer[layer]!.filter((why) => why !== null).length);
      const words = drops.map((n) => ['none', 'some', 'all'][n]);
      expect(await attributes(tokens, 'data-drops')).toEqual(words);
    }
    const colours = await tokens.evaluateAll((all) =>
      all.map((one) =>
        [one.getAttribute('data-expert'), one.computedStyleMap().get('background-color')?.toString()].join(),
      ),
    );
    expect(new Set(colours).size).toBe(new Set(firstChoices(trace, 2)).size);
    expect(await page.locator('.waterfall .steps .step').count()).toBe(trace.waterfall.steps.length);
  });

  it('shows hostile text as text, and a character of several bytes once', async () => {
    const page = await open();
    await play(
      page,
      `${TEXT}<img src=x onerror="document.title='taken'"><script>document.title='taken'</script>`,
    );
    expect(await page.locator('#playground img, #playground script, .tokens b').count()).toBe(0);
    expect(await page.title()).toBe('turnout');
    const clusters = page.locator('.cluster');
    expect(await attributes(clusters, 'aria-label')).toEqual(['character \u00fc', 'character \u65e5']);
    expect(await clusters.nth(1).locator('.glyph').allTextContents()).toEqual(['E6', '97', 'A5']);
  });

  it('opens a token by mouse and by keyboard', async () => {
    const page = await open();
    const { experts } = await play(page, TEXT);
    const panel = page.locator('.token-panel');
    const shownExperts = async () => (await panel.locator('.swatch').allTextContents()).map(Number);
    const tokens = page.locator('#playground .token');
    await tokens.nth(3).click();
    expect(await shownExperts()).toEqual(experts[3]!.flat());
    await page.keyboard.press('ArrowRight');
    expect(await shownExperts()).toEqual(experts[4]!.flat());
    expect(await tokens.nth(4).getAttribute('aria-selected')).toBe('true');
    await page.keyboard.press('End');
    expect(await shownExperts()).toEqual(experts.at(-1)!.flat());
    await tokens.nth(0).focus();
    await page.keyboard.press('Enter');
    expect(await shownExperts()).toEqual(experts[0]!.flat());
    await page.keyboard.press('ArrowDown');
    expect(await page.locator('.token:focus').count()).toBe(1);
    expect(await shownExperts()).not.toEqual(experts[0]!.flat());
  });

  it('continues a text; the last token has not passed the model', async () => {
    const page = await open();
    const trace = await play(page, 'In the', 6);
    expect(trace.tokens.length).toBeGreaterThan(trace.prompt_tokens);
    expect(await page.locator('.token.generated').count()).toBe(trace.tokens.length - trace.prompt_tokens);
    await page.locator('#playground .token').last().click();
    await page.locator('.token-panel').getByText('The model has not seen this token yet').waitFor();
  });

  it('shows what the server refuses in its own words', async () => {
    const { page, complaints } = await watchedPage(browser, server.url);
    await tab(page, 'Playground').click();
    await page.locator('#playground-text').fill('x'.repeat(3000));
    await page.getByRole('button', { name: 'Route' }).click();
    await page.getByRole('alert').getByText('TURNOUT_CONTEXT_EXCEEDED').waitFor();
    expect(complaints).toEqual([expect.stringContaining('400')]);
    await page.context().close();
  });

  it('compares two rules and marks the tokens that they send elsewhere', async () => {
    const page = await open();
    await tab(page, 'Compare').click();
    const rule = (name: string) => page.getByRole('group', { name: `Rule ${name}` });
    await expect.poll(() => rule('B').getByLabel('Preset').locator('option').count()).toBeGreaterThan(5);
    await rule('B').getByLabel('Preset').selectOption('switch');
    await rule('B').getByLabel('Capacity factor').fill('1');
    await page.getByRole('button', { name: 'Compare' }).click();
    const text = await page.locator('#compare-text').inputValue();
    const a = await post<Trace>('/v1/routing/trace', { text });
    const b = await post<Trace>('/v1/routing/trace', {
      text,
      router: { preset: 'switch', capacity_factor: 1 },
    });
    const sides = page.locator('.side');
    await sides.nth(1).locator('.token').first().waitFor();
    const last = a.experts[0]!.length - 1;
    expect(await attributes(sides.nth(0).locator('.token'), 'data-expert')).toEqual(firstChoices(a, last));
    expect(await attributes(sides.nth(1).locator('.token'), 'data-expert')).toEqual(firstChoices(b, last));
    const other = a.tokens.filter((_, t) => a.experts[t]![last]![0] !== b.experts[t]![last]![0]).length;
    expect(other).toBeGreaterThan(0);
    for (const side of [0, 1]) expect(await sides.nth(side).locator('.token.differs').count()).toBe(other);
    await page.locator('.depth .current').getByText(`${other} of ${a.tokens.length}`).waitFor();
    await sides.nth(0).locator('.token').nth(5).click();
    expect(await sides.nth(1).locator('.token').nth(5).getAttribute('aria-selected')).toBe('true');
  });

  it('says which of two rules the server refuses', async () => {
    const { page, complaints } = await watchedPage(browser, server.url);
    await tab(page, 'Compare').click();
    await page.getByRole('group', { name: 'Rule B' }).getByLabel('k', { exact: true }).fill('99');
    await page.getByRole('button', { name: 'Compare' }).click();
    const side = page.locator('.side').filter({ hasText: 'Rule B' });
    await side.getByRole('alert').getByText('TURNOUT_CHOICES_INVALID').waitFor();
    expect(await page.locator('.side .token').count()).toBe(0);
    expect(complaints).toEqual([expect.stringContaining('400')]);
    await page.context().close();
  });

  it('lists the lanes', async () => {
    const page = await open();
    await tab(page, 'Lanes').click();
    const row = page.locator('#lanes tbody tr');
    await row.first().waitFor();
    const answer = await fetch(`${server.url}/v1/status`);
    const { lanes } = (await answer.json()) as { lanes: { device: string; calls: number }[] };
    expect(await row.count()).toBe(lanes.length);
    const cells = await row.first().locator('th, td').allTextContents();
    expect(cells.slice(0, 3)).toEqual(['0', lanes[0]!.device, 'ready']);
    expect(cells[5]).toBe(lanes[0]!.calls.toLocaleString('en-US'));
  });

  it('chooses views by arrow keys and by address', async () => {
    const page = await open();
    await page.keyboard.press('Tab');
    expect(await page.locator(':focus').textContent()).toBe('Skip to the content');
    await page.keyboard.press('Tab');
    await page.keyboard.press('End');
    await page.keyboard.press('ArrowLeft');
    expect(await page.locator('[role=tab]:focus').textContent()).toBe('Compare');
    expect(await page.locator('#compare').isVisible()).toBe(true);
    const again = await open({}, page.url());
    expect(await again.locator('#compare').isVisible()).toBe(true);
    expect(await again.locator('#routing').isVisible()).toBe(false);
  });

  for (const [name, options] of [
    ['light', {}],
    ['dark', { colorScheme: 'dark' }],
    ['a phone', PHONE],
  ] as const) {
    it(`has contrast and fits: ${name}`, async () => {
      const page = await open(options);
      await play(page, TEXT);
      await page.locator('#playground .token').nth(2).click();
      await tab(page, 'Compare').click();
      await page.getByRole('button', { name: 'Compare' }).click();
      await page.locator('.side .token').first().waitFor();
      for (const view of TABS) {
        await tab(page, view).click();
        expect([view, await page.evaluate(LOW_CONTRAST)]).toEqual([view, []]);
        const width = await page.evaluate('document.documentElement.scrollWidth');
        expect([view, width]).toEqual([view, page.viewportSize()!.width]);
      }
      const ground = await page.evaluate('getComputedStyle(document.body).backgroundColor');
      expect(ground === 'rgb(14, 17, 22)').toBe(name === 'dark');
    });
  }
});

describe.skipIf(noBrowser)('the dashboard of a server', () => {
  it('that asks for a key shows the form and keeps the key in the tab', async () => {
    const guarded = await serve(BABEL, { server: { port: 0, apiKeys: [KEY] } });
    onTestFinished(() => guarded.close());
    const { page, complaints } = await watchedPage(browser, guarded.url);
    const dialog = page.getByRole('dialog');
    await dialog.waitFor();
    await page.keyboard.type('not-the-key');
    await page.keyboard.press('Enter');
    await dialog.getByText('The server refused this key.').waitFor();
    await page.keyboard.type(KEY);
    await page.keyboard.press('Enter');
    await page.getByRole('status').getByText('Live').waitFor();
    expect(await dialog.isVisible()).toBe(false);
    expect(await page.evaluate('[sessionStorage.length, localStorage.length, document.cookie]')).toEqual([
      1,
      0,
      '',
    ]);
    expect(complaints.filter((text) => !text.includes('401'))).toEqual([]);
    await page.context().close();
  });

  it('that goes away says so, and finds it again', async () => {
    let mortal = await serve(BABEL, { server: { port: 0, graceMs: 100 } });
    const port = Number(new URL(mortal.url).port);
    onTestFinished(() => mortal.close());
    const { page } = await watchedPage(browser, mortal.url);
    const status = page.locator('#connection');
    await expect.poll(() => status.textContent()).toBe('Live');
    await mortal.close();
    await expect.poll(() => status.textContent()).toMatch(/^The server /);
    await expect.poll(() => page.locator('#countdown').textContent()).toMatch(/^Next try in \d+/);
    const retry = page.getByRole('button', { name: 'Try now', includeHidden: true });
    await expect.poll(() => retry.isVisible()).toBe(true);
    mortal = await serve(BABEL, { server: { port, graceMs: 100 } });
    // The page may have found it by itself by now, and hidden the button.
    await retry.dispatchEvent('click');
    await expect.poll(() => status.textContent(), { timeout: 10_000 }).toBe('Live');
    await page.context().close();
  });
});
