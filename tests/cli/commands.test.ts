import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { describe, expect, it } from 'vitest';
import { copyOfBabel, editManifest, temporaryFolder } from '../support/babel.js';
import { MAIN, turnout } from '../support/cli.js';

const start = (args: readonly string[]): ChildProcess => spawn(process.execPath, [MAIN, ...args]);

describe('every command', () => {
  it.each(['run', 'route', 'inspect', 'verify', 'doctor'])('%s has help with an example', async (name) => {
    const { out, code } = await turnout([name, '--help']);
    expect(code).toBe(0);
    expect(out).toContain('--json');
    expect(out).toMatch(/Examples?:\n {2}\$ .*turnout /);
  });

  it('is listed, and a wrong one is refused with the nearest name', async () => {
    const { out } = await turnout(['--help']);
    expect(out).toMatch(/run[\s\S]*route[\s\S]*inspect[\s\S]*verify[\s\S]*doctor[\s\S]*Exit codes/);
    const wrong = await turnout(['verfy']);
    expect(wrong.code).toBe(2);
    expect(wrong.err).toContain('verify');
    expect((await turnout(['run', '--no-such-flag'])).code).toBe(2);
    expect((await turnout(['--version'])).out).toMatch(/^\d+\.\d+\.\d+\n$/);
  });
});

describe('turnout run', () => {
  it('streams the continuation and draws the routing', async () => {
    const { out, code } = await turnout(['run', 'In the beginning was the Word', '--max-tokens', '32']);
    expect(code).toBe(0);
    expect(out.startsWith('In the beginning was the Word')).toBe(true);
    for (const part of ['layers.0', 'layers.3', 'dropped', 'MaxVio', 'ms by stage', 'L3'])
      expect(out).toContain(part);
    expect(out).not.toContain('\u001B');
  });

  it('writes the first text before the last', async () => {
    const child = start(['run', 'And ', '--max-tokens', '400', '--backend', 'inline']);
    const chunks: number[] = [];
    child.stdout!.on('data', () => chunks.push(performance.now()));
    await once(child, 'close');
    expect(chunks.length).toBeGreaterThan(20);
  });

  it('gives JSON with the routing of every token', async () => {
    const { out } = await turnout(['run', '-', '--json', '-n', '5', '-t', '0'], 'Am Anfang');
    const result = JSON.parse(out);
    expect(result).toMatchObject({ prompt: 'Am Anfang', reason: 'max-tokens' });
    expect(result.tokens).toHaveLength(5);
    expect(result.layers).toHaveLength(4);
    const [layer] = result.layers;
    expect(layer.experts).toHaveLength(1 + 9 + 4);
    expect(layer.experts[0]).toHaveLength(2);
    for (const key of ['scores', 'weights', 'drops', 'load', 'kept', 'dropped', 'losses', 'imbalance'])
      expect(layer).toHaveProperty(key);
    expect(Object.keys(result.times)).toContain('computeMs');
  });

  it('takes a held-out sentence of each domain without text', async () => {
    const { out, code } = await turnout(['run', '-n', '4']);
    expect(code).toBe(0);
    for (const domain of ['c', 'english', 'french', 'german', 'japanese', 'python'])
      expect(out).toContain(`== ${domain}\n`);
    expect(out).toContain('by domain and expert');
  });

  it('gives the same text on both backends, and drops more with less capacity', async () => {
    const run = async (...flags: string[]) =>
      JSON.parse((await turnout(['run', 'The ', '--json', '-n', '40', ...flags])).out);
    const [inline, threads, tight, dropless] = [
      await run('--backend', 'inline'),
      await run('--devices', 'cpu,cpu'),
      await run('--options', '{"admit": {"factor": 0.5, "minimum": 1}}'),
      await run('--capacity-factor', 'none'),
    ];
    expect(threads.text).toBe(inline.text);
    const drops = (result: { layers: { dropped: { capacity?: number } }[] }) =>
      result.layers.reduce((sum, layer) => sum + (layer.dropped.capacity ?? 0), 0);
    expect(drops(dropless)).toBe(0);
    expect(drops(tight)).toBeGreaterThan(drops(inline));
  });

  it('lists every token with --tokens, and ends before a stop text', async () => {
    const { out } = await turnout(['run', 'ab', '-n', '3', '--tokens']);
    expect(out).toMatch(/^ {4}1 {2}a {7}L0 {2}expert +\d+ \d\.\d{3}/m);
    const stopped = JSON.parse(
      (await turnout(['run', 'And the ', '--json', '-n', '200', '--stop', 'e', 'a'])).out,
    );
    expect(stopped.reason).toBe('stop');
    expect(stopped.text).not.toMatch(/[ea]/);
  });

  it.each([
    [['--backend', 'nothing'], 2, 'processes'],
    [['--max-tokens', 'many'], 2, 'number'],
    [['--preset', 'nothing'], 1, 'TURNOUT_PRESET_UNKNOWN'],
    [['--preset', 'v-moe'], 1, 'TURNOUT_ROUTER_NOT_CAUSAL'],
    [['--capacity-factor', '0'], 1, 'TURNOUT_CAPACITY_INVALID'],
    [['-k', '9'], 1, 'TURNOUT_CHOICES_INVALID'],
    [['--max-tokens', '5000'], 1, 'TURNOUT_CONTEXT_EXCEEDED'],
    [['--temperature', '-1'], 1, 'TURNOUT_OPTIONS_INVALID'],
    [['--lanes', '0'], 1, 'TURNOUT_OPTIONS_INVALID'],
    [['--package', '/nowhere'], 1, 'TURNOUT_PACKAGE_FILE_MISSING'],
    [['--options', '/nowhere.json'], 1, 'TURNOUT_FILE_MISSING'],
    [['--timeout', '1'], 1, 'TURNOUT_DEADLINE_EXCEEDED'],
  ] as const)('refuses %j', async (flags, code, message) => {
    const result = await turnout(['run', 'text', ...flags]);
    expect({ code: result.code, err: result.err }).toEqual({ code, err: expect.stringContaining(message) });
    expect(result.err).not.toContain('    at ');
  });

  it('gives errors as JSON too', async () => {
    const { err, code } = await turnout(['run', 'text', '--json', '--preset', 'nothing']);
    expect(code).toBe(1);
    expect(JSON.parse(err)).toMatchObject({ code: 'TURNOUT_PRESET_UNKNOWN' });
  });

  it.skipIf(process.platform === 'win32')('ends cleanly with Ctrl-C', async () => {
    const child = start(['run', 'And ', '--max-tokens', '2000']);
    child.stdout!.once('data', () => setTimeout(() => child.kill('SIGINT'), 50));
    const [out, err, [code]] = await Promise.all([
      text(child.stdout!),
      text(child.stderr!),
      once(child, 'close'),
    ]);
    expect({ code, err }).toEqual({ code: 130, err: '' });
    expect(out.startsWith('And ')).toBe(true);
    expect(out).not.toContain('by stage');
  });

  it('ends quietly when its reader goes away', async () => {
    const child = start(['run', 'And ', '--max-tokens', '1000']);
    child.stdout!.once('data', () => child.stdout!.destroy());
    const [err, [code]] = await Promise.all([text(child.stderr!), once(child, 'close')]);
    expect({ code, err }).toEqual({ code: 0, err: '' });
  });
});

describe('turnout inspect', () => {
  it('tells what the bundled package holds', async () => {
    const { out } = await turnout(['inspect']);
    for (const part of [
      'babel',
      'parameters',
      'layers.3',
      '8 experts, 2 a token by mixtral',
      'capacity factor 2',
      'paged',
      'japanese',
    ]) {
      expect(out).toContain(part);
    }
    const json = JSON.parse((await turnout(['inspect', '--json'])).out);
    expect(json).toMatchObject({
      name: 'babel',
      sizes: { experts: 8, choices: 2 },
      files: { onnx: { files: 41 } },
    });
    expect(json.parameters.active).toBeLessThan(json.parameters.total);
  });
});

describe('turnout verify', () => {
  it('is content with the bundled package', async () => {
    expect(await turnout(['verify'])).toMatchObject({
      code: 0,
      out: expect.stringMatching(/^babel: \d+ files/),
      err: '',
    });
  });

  it('tells every problem with its code', async () => {
    const folder = copyOfBabel();
    rmSync(join(folder, 'layer-00/gate.onnx'));
    truncateSync(join(folder, 'trunk-01.bin'), 10);
    writeFileSync(join(folder, 'held-out/c.txt'), 'x'.repeat(63_988));
    const { err, code, out } = await turnout(['verify', folder]);
    expect(code).toBe(1);
    expect(err).toContain('TURNOUT_PACKAGE_FILE_MISSING');
    expect(err).toContain('TURNOUT_PACKAGE_SIZE_MISMATCH');
    expect(err).toContain('TURNOUT_PACKAGE_CHECKSUM_MISMATCH');
    expect(out).toContain('3 problems');
    const json = JSON.parse((await turnout(['verify', folder, '--json'])).out);
    expect(json.ok).toBe(false);
    expect(json.problems).toHaveLength(3);
  });

  it('tells of paths that leave, and of what is no package', async () => {
    const folder = copyOfBabel();
    editManifest(folder, (manifest) => {
      manifest.files['../x'] = { bytes: 1, sha256: '0'.repeat(64) };
    });
    expect(await turnout(['verify', folder])).toMatchObject({
      code: 1,
      err: expect.stringContaining('TURNOUT_PACKAGE_PATH_OUTSIDE'),
    });
    expect(await turnout(['verify', temporaryFolder()])).toMatchObject({
      code: 1,
      err: expect.stringContaining('TURNOUT_PACKAGE_FILE_MISSING'),
    });
  });
});
