import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { heldOutPrompts } from '../../../dist/bench/server/prompts.js';
import { tablesOf } from '../../../dist/bench/server/report.js';
import { benchServer } from '../../../dist/bench/server.bench.js';
import { BABEL } from '../../support/babel.js';

const SETTINGS = {
  only: ['throughput'],
  package: BABEL,
  model: { backend: 'inline' },
  clients: [2],
  tokens: 2,
  rounds: 1,
  seconds: 1,
  minutes: 2,
  node: [],
} as const;

describe('bench server', () => {
  it('sets the server beside the engine called directly', { timeout: 60_000 }, async () => {
    const report = await benchServer(SETTINGS);
    const ids = ['engine', 'server', 'server, streaming'].map((name) => `${name}, 2 clients`);
    expect(report.rows.map(({ id }) => id)).toEqual(ids);
    const [engine, server] = report.rows;
    expect(engine!.figures['of engine']!.median).toBe(1);
    const ratio = server!.figures['tokens/s']!.median / engine!.figures['tokens/s']!.median;
    expect(server!.figures['of engine']!.median).toBeCloseTo(ratio, 9);
    expect(tablesOf(report).map(({ title }) => title)).toEqual(['2 clients', 'Targets']);
  });

  it('ends where the engine cannot be opened', { timeout: 30_000 }, async () => {
    const model = { backend: 'processes', devices: ['cuda:9'] } as const;
    await expect(benchServer({ ...SETTINGS, model })).rejects.toThrow('cuda:9');
    await expect.poll(() => process.getActiveResourcesInfo()).not.toContain('ProcessWrap');
  });

  it('ends when it is told to', async () => {
    const signal = AbortSignal.abort(new Error('enough'));
    await expect(benchServer(SETTINGS, { signal })).rejects.toThrow('enough');
  });
});

describe('prompts', () => {
  it('are pieces of the held-out texts that leave room for the answers', async () => {
    const prompts = await heldOutPrompts(BABEL, { count: 20, tokens: 2000 });
    // 2048 in all, one for the begin token.
    for (const prompt of prompts) expect(Buffer.byteLength(prompt)).toBeLessThanOrEqual(47);
    expect(new Set(prompts).size).toBe(20);
    await expect(heldOutPrompts(BABEL, { count: 1, tokens: 2047 })).rejects.toMatchObject({
      code: 'TURNOUT_OPTIONS_INVALID',
      message: '--tokens: expected at most 2046 for the context of babel, got 2047',
    });
  });

  it('are made up for a package without texts', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'turnout-test-'));
    const { heldOut: _, ...manifest } = JSON.parse(await readFile(join(BABEL, 'manifest.json'), 'utf8'));
    await writeFile(join(folder, 'manifest.json'), JSON.stringify(manifest));
    const prompts = await heldOutPrompts(folder, { count: 10, tokens: 16 });
    for (const prompt of prompts) expect(prompt.length).toBeGreaterThan(0);
    expect(new Set(prompts).size).toBe(10);
    await rm(folder, { recursive: true });
  });
});
