import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { temporaryFolder } from '../support/babel.js';
import { turnout } from '../support/cli.js';
import { allowedCpus } from '../support/proc.js';
import { NO_WEBGPU_ENV, WEBGPU_ENV, webgpuMissing } from '../support/webgpu.js';

const linux = process.platform === 'linux';

/** Runs it with JSON -> exit code and what each device answered, by name. */
async function doctor(list: string, env = {}) {
  const { code, out, err } = await turnout(['doctor', '--devices', list, '--json'], '', env);
  const { devices, providers } = JSON.parse(out) as Record<string, { name: string; error?: string }[]>;
  expect(providers).toEqual([]);
  const errors = Object.fromEntries(devices!.map(({ name, error }) => [name, error ?? 'ok']));
  return { code, err, devices: devices!, errors };
}

describe('turnout doctor', { timeout: 60_000 }, () => {
  it('tries every provider, and finds that the CPU works', async () => {
    const { out, code } = await turnout(['doctor', '--json']);
    expect(code).toBe(0);
    const report = JSON.parse(out);
    expect(report.providers.find((provider: { name: string }) => provider.name === 'cpu').ok).toBe(true);
    for (const provider of report.providers)
      if (!provider.ok) expect(provider.error.length).toBeGreaterThan(5);
    expect(report.package).toEqual({ ok: true });
    const { out: text } = await turnout(['doctor']);
    expect(text).toContain('execution providers');
    expect(text).toMatch(/^huge pages: (none to be had|.* GLIBC_TUNABLES=glibc\.malloc\.\S+)$/m);
  });

  it('refuses a list that is none', async () => {
    const { code, err } = await turnout(['doctor', '--devices', 'cpu:1-0']);
    expect(code).toBe(1);
    expect(err).toMatch(/^TURNOUT_OPTIONS_INVALID: device: expected cpu, cpu:LIST .* got "cpu:1-0"\n/);
  });

  it('tries the named devices, and fails where one cannot be had', async () => {
    const good = await doctor('cpu');
    expect(good).toMatchObject({ code: 0, err: '' });
    expect(good.devices).toEqual([{ name: 'cpu', ok: true, milliseconds: expect.any(Number) }]);
    const { code, err, errors } = await doctor('cpu,cuda:1,foo,webgpu:1', { CUDA_VISIBLE_DEVICES: '3' });
    expect({ code, err }).toEqual({ code: 1, err: '' });
    expect(errors).toEqual({
      cpu: 'ok',
      'cuda:1': 'cuda:1: CUDA_VISIBLE_DEVICES=3 shows only cuda:0',
      foo: expect.stringMatching(/^foo: expected an execution provider .*\(cpu.* got foo$/),
      'webgpu:1': expect.stringMatching(/^webgpu:1: /),
    });
  });

  it('shows one line for each', async () => {
    const { out, code } = await turnout(['doctor', '--devices', 'cpu,foo']);
    expect(code).toBe(1);
    expect(out).toContain('devices, each tried on a one-row expert:\n  cpu        works (');
    expect(out).toMatch(/\n {2}foo {8}expected an execution provider/);
  });

  it.runIf(linux)('binds to CPUs and looks whether it was done', async () => {
    const [first] = allowedCpus();
    const { code, errors } = await doctor(`cpu:${first},cpu:0-8000,cpu:8000`);
    expect(code).toBe(1);
    expect(errors).toEqual({
      [`cpu:${first}`]: 'ok',
      'cpu:0-8000': expect.stringMatching(/expected a process on the CPUs 0-8000, got one on \d/),
      'cpu:8000': expect.stringMatching(/^cpu:8000: .*Invalid argument/),
    });
  });

  it.runIf(!linux)('binds to CPUs on Linux only', async () => {
    expect((await doctor('cpu:0')).errors['cpu:0']).toMatch(/needs Linux$/);
  });

  it.runIf(linux)('says that a driver crashed, and goes on', async () => {
    // Becomes the expert process, as a driver is in it.
    const folder = temporaryFolder();
    writeFileSync(join(folder, 'taskset'), '#!/bin/sh\nkill -SEGV $$\n', { mode: 0o755 });
    const { code, errors } = await doctor('cpu:0,cpu', { PATH: `${folder}:${process.env.PATH}` });
    expect(code).toBe(1);
    expect(errors).toEqual({ 'cpu:0': 'cpu:0: its process was ended by SIGSEGV', cpu: 'ok' });
  });

  it.runIf(linux)('says which programs there are to pin processes with', async () => {
    const here = JSON.parse((await turnout(['doctor', '--json', '--devices', 'cpu'])).out);
    expect(here.tools.map(({ name, ok }: { name: string; ok: boolean }) => [name, ok])).toEqual([
      ['setpriv', true],
      ['taskset', true],
      ['prlimit', true],
    ]);
    const folder = temporaryFolder();
    writeFileSync(join(folder, 'setpriv'), '#!/bin/sh\necho unknown option >&2; exit 1\n', { mode: 0o755 });
    const { out, code } = await turnout(['doctor', '--devices', 'cpu:0'], '', { PATH: folder });
    expect(code).toBe(1);
    expect(out).toMatch(/ {2}cpu:0 {6}binding a process to CPUs needs taskset \(util-linux\)\n/);
    expect(out).toContain('\n  setpriv    unknown option: an expert process that is stopped outlives');
    expect(out).toContain('\n  taskset    is not on the PATH: no devices such as cpu:0-1\n');
    expect(out).toContain('\n  prlimit    is not on the PATH: no limits.memoryBytes\n');
  });

  it.skipIf(webgpuMissing)('tries webgpu in the environment that it is given', async () => {
    expect(await doctor('webgpu', WEBGPU_ENV)).toMatchObject({ code: 0, errors: { webgpu: 'ok' } });
    expect(await doctor('webgpu', NO_WEBGPU_ENV)).toMatchObject({
      code: 1,
      errors: { webgpu: expect.stringMatching(/adapter/) },
    });
  });
});
