import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { describe, expect, it, vi } from 'vitest';
import { MAIN } from '../support/cli.js';
import { processesWith } from '../support/proc.js';

/** Two processes start sooner than one for each of the 32 experts. */
const TWO = ['--backend', 'processes', '--devices', 'cpu,cpu', '--one-process-per', 'device'];

/** The command in a process group of its own, as a shell starts it, and a mark that all its processes inherit. */
function startMarked(...flags: string[]) {
  const mark = `TURNOUT_TEST=${randomUUID()}`;
  const [name, value] = mark.split('=') as [string, string];
  const child = spawn(process.execPath, [MAIN, 'run', 'And ', ...flags], {
    ...{ detached: true, stdio: ['ignore', 'pipe', 'pipe'] },
    env: { ...process.env, [name]: value },
  });
  const ended = Promise.all([once(child, 'close'), text(child.stderr)]);
  const running = () => processesWith(mark);
  const experts = () => running().filter((pid) => pid !== child.pid);
  const started = () => vi.waitFor(() => expect(experts().length).toBeGreaterThan(0), 20_000);
  return { child, ended, running, experts, started };
}

describe.runIf(process.platform === 'linux')('turnout run leaves no process', { timeout: 60_000 }, () => {
  it('when it has ended', async () => {
    const { ended, running, started } = startMarked('-n', '30', ...TWO);
    await started();
    const [[code]] = await ended;
    expect(code).toBe(0);
    expect(running()).toEqual([]);
  });

  it('when a device cannot be had', async () => {
    const { ended, running } = startMarked('--backend', 'processes', '--devices', 'cpu,cpu:8000');
    const [[code]] = await ended;
    expect(code).toBe(1);
    expect(running()).toEqual([]);
  });

  it('after Ctrl-C', async () => {
    const { child, ended, running, experts } = startMarked('-n', '2000', ...TWO);
    await once(child.stdout, 'data');
    expect(experts()).toHaveLength(2);
    process.kill(-child.pid!, 'SIGINT');
    const [[code], err] = await ended;
    expect({ code, err }).toEqual({ code: 130, err: '' });
    expect(running()).toEqual([]);
  });

  it('after Ctrl-C while processes start, and at once', async () => {
    const { child, ended, running, started } = startMarked('--backend', 'processes');
    await started();
    const told = performance.now();
    process.kill(-child.pid!, 'SIGINT');
    const [[code], err] = await ended;
    expect({ code, err }).toEqual({ code: 130, err: '' });
    expect(performance.now() - told).toBeLessThan(2000);
    await vi.waitFor(() => expect(running()).toEqual([]), 5000);
  });

  it('when its reader goes away', async () => {
    const { child, ended, running } = startMarked('-n', '2000', ...TWO);
    child.stdout.once('data', () => child.stdout.destroy());
    const [[code], err] = await ended;
    expect({ code, err }).toEqual({ code: 0, err: '' });
    await vi.waitFor(() => expect(running()).toEqual([]), 5000);
  });

  it.each(['SIGKILL', 'SIGTERM'] as const)('after %s', async (signal) => {
    const { child, ended, running, experts } = startMarked('-n', '2000', ...TWO);
    await once(child.stdout, 'data');
    expect(experts()).toHaveLength(2);
    child.kill(signal);
    const [[code, by]] = await ended;
    expect({ code, by }).toEqual({ code: null, by: signal });
    await vi.waitFor(() => expect(running()).toEqual([]), 5000);
  });
});
