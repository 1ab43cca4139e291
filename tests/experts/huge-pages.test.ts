import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { wholeBatch } from '#turnout/experts/batches.js';
import { asksForHugePages, hugePages, pagesFor } from '#turnout/experts/huge-pages.js';
import { openProcesses } from '#turnout/experts/processes.js';
import { type TemporaryExperts, temporaryExperts } from '../support/experts.js';

const kernel = () => {
  try {
    return readFileSync('/sys/kernel/mm/transparent_hugepage/enabled', 'latin1');
  } catch {
    return '';
  }
};
const HAS_SOME = /\[(always|madvise)\]/.test(kernel());

/** Pages that a process was given so far without reading a file (proc(5): minflt, the tenth field of its stat). */
const minorFaults = (pid: number) => {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[7]);
};

describe.runIf(HAS_SOME)('huge pages', () => {
  it('are asked for where nobody says how to allocate', () => {
    for (const opens of ['main', 'threads'] as const) {
      const asked = hugePages(opens, {});
      expect(asksForHugePages(asked)).toBe(true);
      // What a process that was started so hands on, as its own C library may show it.
      const cut = { GLIBC_TUNABLES: asked.GLIBC_TUNABLES!.split(':')[0]! };
      for (const given of [asked, cut])
        expect(hugePages('main', given).GLIBC_TUNABLES).toBe(hugePages('main', {}).GLIBC_TUNABLES);
    }
  });

  it('are left to those who say', () => {
    for (const GLIBC_TUNABLES of ['', 'glibc.malloc.arena_max=1', 'glibc.malloc.hugetlb=0']) {
      expect(hugePages('main', { GLIBC_TUNABLES })).toEqual({});
      expect(asksForHugePages({ GLIBC_TUNABLES })).toBe(false);
    }
  });

  it('are not inherited by those who map their weights', () => {
    const asked = hugePages('threads', {});
    expect(pagesFor('packed', 'main', asked)).toEqual(hugePages('main', {}));
    expect(pagesFor('mapped', 'main', asked)).toEqual({ GLIBC_TUNABLES: undefined });
    expect(pagesFor('mapped', 'main', { GLIBC_TUNABLES: 'glibc.malloc.arena_max=1' })).toEqual({});
  });

  describe('of expert processes', () => {
    let set: TemporaryExperts;

    beforeAll(async () => {
      set = await temporaryExperts({ experts: 2, hidden: 512, inner: 4096, activation: 'relu' });
    });
    afterAll(() => set.remove());

    const hugeBytes = async (residency: 'packed' | 'mapped') => {
      await using backend = await openProcesses(set.files, { residency, oneProcessPer: 'device' });
      const pid = backend.lanes()[0]!.process!.pid!;
      const [, kib] = /^AnonHugePages:\s+(\d+) kB$/m.exec(
        readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1'),
      )!;
      return 1024 * Number(kib);
    };

    it('hold packed weights', async () => {
      const weights = 2 * 2 * 4 * 512 * 4096;
      expect(await hugeBytes('packed')).toBeGreaterThan(weights / 2);
      expect(await hugeBytes('mapped')).toBeLessThan(weights / 2);
    });

    it('use the memory of one call again for the next', async () => {
      await using backend = await openProcesses(set.files, { oneProcessPer: 'device' });
      const pid = backend.lanes()[0]!.process!.pid!;
      // Hidden activations are 1 MiB: 256 faults of 4 KiB a call where they are the system's each time.
      const call = [wholeBatch(0, new Float32Array(64 * 512).fill(0.5), 512)];
      const calls = async (count: number) => {
        const before = minorFaults(pid);
        for (let i = 0; i < count; i++) await backend.run(call);
        return minorFaults(pid) - before;
      };
      await calls(20);
      expect(await calls(20)).toBeLessThan(20 * 100);
    });
  });

  it('are what `turnout bench` runs in, unless told otherwise', () => {
    const flags = ['-e', '2', '--hidden', '32', '--inner', '32', '--tokens', '1', '--loads', 'even'];
    const bench = ['bench', 'layer', ...flags, '--rounds', '1', '--contenders', 'inline', '--json', '-'];
    const run = (env: NodeJS.ProcessEnv, more: readonly string[] = []) => {
      const { stdout } = spawnSync(process.execPath, ['dist/src/cli/main.js', ...bench, ...more], {
        env: { ...process.env, GLIBC_TUNABLES: undefined, ...env },
        encoding: 'utf8',
      });
      return JSON.parse(stdout).hardware.hugePages as boolean;
    };
    expect(run({})).toBe(true);
    expect(run({ GLIBC_TUNABLES: '' })).toBe(false);
    expect(run({}, ['--residency', 'mapped'])).toBe(false);
  }, 60_000);
});
