import { createHash } from 'node:crypto';
import { readFileSync, renameSync } from 'node:fs';
import { cp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { wholeBatch } from '#turnout/experts/batches.js';
import { openInline } from '#turnout/experts/inline.js';
import { openProcesses, type ProcessesBackend, type ProcessesOptions } from '#turnout/experts/processes.js';
import { bytesOf } from '../contracts/backend.contract.js';
import { temporaryFolder } from '../support/babel.js';
import { type TemporaryExperts, temporaryExperts } from '../support/experts.js';
import { allReady, childrenOf, pidsOf, signal } from '../support/processes.js';

const HIDDEN = 32;
const SPEC = { experts: 4, hidden: HIDDEN, inner: 48, activation: 'relu' } as const;
const x = new Float32Array(20 * HIDDEN).map((_, i) => Math.sin(i));

let old: TemporaryExperts;
let fresh: TemporaryExperts;
beforeAll(async () => {
  old = await temporaryExperts(SPEC);
  fresh = await temporaryExperts({ ...SPEC, seed: 99 });
});
afterAll(() => Promise.all([old.remove(), fresh.remove()]));

const sha256 = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex');
const dataOf = (path: string) => path.replace(/\.onnx$/, '.bin');
const versionOf = (expert: number, path: string) => ({
  expert,
  path,
  sha256: sha256(path),
  data: [{ path: dataOf(path), sha256: sha256(dataOf(path)) }],
});

/** y of experts 0 to 3 on the same rows, of the old and of the fresh files. */
async function expectations() {
  const run = async (set: TemporaryExperts) => {
    await using inline = await openInline(set.files);
    return (await inline.run(all())).outputs.map((y) => y.slice());
  };
  return { before: await run(old), after: await run(fresh) };
}

const all = () => [0, 1, 2, 3].map((expert) => wholeBatch(expert, x, HIDDEN));

/** Calls back to back until `stop`; each must be wholly of one version of expert 1. */
function load(backend: ProcessesBackend, { before, after }: Awaited<ReturnType<typeof expectations>>) {
  let stopped = false;
  const seen = { before: 0, after: 0 };
  const caller = async () => {
    while (!stopped) {
      // Expert 1 twice: both parts of one call are of one version.
      const { outputs } = await backend.run([...all(), wholeBatch(1, x, HIDDEN)], { timeoutMs: 10_000 });
      const version = Buffer.compare(bytesOf(outputs[1]!), bytesOf(before[1]!)) === 0 ? 'before' : 'after';
      expect(outputs[1]).toEqual((version === 'before' ? before : after)[1]);
      expect(outputs[4]).toEqual(outputs[1]);
      expect([outputs[0], outputs[2], outputs[3]]).toEqual([before[0], before[2], before[3]]);
      seen[version]++;
      // Comparing takes longer than computing: others have their turn too.
      await sleep(1);
    }
  };
  const callers = Promise.all(Array.from({ length: 6 }, caller));
  return {
    seen,
    async stop() {
      stopped = true;
      await callers;
    },
  };
}

const open = (options: ProcessesOptions = {}) =>
  openProcesses(
    old.files.map(({ path }) => ({ path, data: [dataOf(path)] })),
    { devices: ['cpu', 'cpu'], oneProcessPer: 'device', replicas: 2, ...options },
  );

describe('a new version of an expert', () => {
  it('is taken in under load: no call is lost, and each sees one version', async () => {
    const expected = await expectations();
    await using backend = await open();
    const running = load(backend, expected);
    await sleep(100);
    await backend.update({ experts: [versionOf(1, fresh.files[1]!.path)] });
    const { outputs } = await backend.run(all());
    expect(outputs[1]).toEqual(expected.after[1]);
    await sleep(100);
    await running.stop();
    expect(running.seen.before).toBeGreaterThan(0);
    expect(running.seen.after).toBeGreaterThan(0);
    expect(backend.lanes().map(({ restarts }) => restarts)).toEqual([0, 0]);
  });

  it('is what a process that dies later opens again', async () => {
    const { before, after } = await expectations();
    await using backend = await open({ replicas: 1 });
    await backend.update({ experts: [versionOf(1, fresh.files[1]!.path)] });
    for (const pid of pidsOf(backend)) process.kill(pid, 'SIGKILL');
    expect((await backend.run(all())).outputs).toEqual([before[0], after[1], before[2], before[3]]);
  });

  it.skipIf(process.platform !== 'linux')(
    'is all that is left of an expert, also where a process died meanwhile',
    async () => {
      await using backend = await open({ residency: 'mapped' });
      for (const kill of [0, 30, 80]) {
        signal(pidsOf(backend)[0]!, 'SIGKILL');
        await sleep(kill);
        for (const set of [fresh, old]) await backend.update({ experts: [versionOf(1, set.files[1]!.path)] });
        await allReady(backend);
      }
      const mapped = () =>
        pidsOf(backend).map((pid) => {
          const maps = readFileSync(`/proc/${pid}/maps`, 'latin1');
          return [old, fresh].map(({ files }) => maps.includes(dataOf(files[1]!.path)));
        });
      await expect.poll(mapped).toEqual([
        [true, false],
        [true, false],
      ]);
    },
  );

  it('under the same name, renamed over the old files, with processes that die at any moment', async () => {
    const expected = await expectations();
    const folder = temporaryFolder();
    await cp(old.folder, folder, { recursive: true });
    const files = old.files.map(({ path }) => {
      const own = path.replace(old.folder, folder);
      return { path: own, data: [dataOf(own)] };
    });
    const options = { devices: ['cpu', 'cpu'], oneProcessPer: 'device', replicas: 2 } as const;
    await using backend = await openProcesses(files, options);
    const { path } = files[1]!;
    for (const file of [path, dataOf(path)]) {
      await cp(file.replace(folder, fresh.folder), `${file}.new`);
      renameSync(`${file}.new`, file);
    }
    // The old version cannot be opened any more: the one that dies is back with the new one.
    process.kill(pidsOf(backend)[0]!, 'SIGKILL');
    await expect.poll(() => backend.lanes()[0]!.process!.lastDeath).toContain('was replaced');
    await backend.update({ experts: [versionOf(1, path)] });
    await allReady(backend);
    for (let i = 0; i < 4; i++) {
      expect((await backend.run(all())).outputs).toEqual(expected.before.with(1, expected.after[1]!));
    }
  });

  it('loses no call of a replica where a process dies while it starts for the update', async () => {
    const expected = await expectations();
    await using backend = await open();
    const running = load(backend, expected);
    for (const set of [fresh, old, fresh]) {
      signal(pidsOf(backend)[0]!, 'SIGKILL');
      const update = backend.update({ experts: [versionOf(1, set.files[1]!.path)] });
      // The one that takes its place, before it is ready.
      const before = childrenOf(process.pid);
      await expect.poll(() => childrenOf(process.pid).find((pid) => !before.includes(pid))).toBeDefined();
      signal(childrenOf(process.pid).find((pid) => !before.includes(pid))!, 'SIGKILL');
      await update;
    }
    await running.stop();
    expect(running.seen.after).toBeGreaterThan(0);
  }, 30_000);

  it('renamed over the old files, in an update that fails: replicas of the old version go on alone', async () => {
    const { before } = await expectations();
    const folder = temporaryFolder();
    await cp(old.folder, folder, { recursive: true });
    const files = old.files.map(({ path }) => path.replace(old.folder, folder));
    await using backend = await openProcesses(
      files.map((path) => ({ path, data: [dataOf(path)] })),
      { devices: ['cpu', 'cpu'], oneProcessPer: 'device', replicas: 2 },
    );
    for (const file of [files[1]!, dataOf(files[1]!)]) {
      await cp(file.replace(folder, fresh.folder), `${file}.new`);
      renameSync(`${file}.new`, file);
    }
    signal(pidsOf(backend)[0]!, 'SIGKILL');
    await expect.poll(() => backend.lanes()[0]!.process!.lastDeath).toContain('was replaced');
    const all4 = [0, 1, 2, 3];
    const placement = [
      ...Array(2).fill({ device: 'cpu', experts: all4 }),
      { device: 'nowhere', experts: [0] },
    ];
    const update = backend.update({ placement, experts: [versionOf(1, files[1]!)] });
    await expect(update).rejects.toMatchObject({ code: 'TURNOUT_DEVICE_UNAVAILABLE' });
    for (let i = 0; i < 50; i++) {
      const { outputs } = await backend.run(all());
      expect(outputs).toEqual(before);
      await sleep(10);
    }
  }, 30_000);

  it('that is none is refused', async () => {
    await using backend = await open();
    const version = versionOf(1, fresh.files[1]!.path);
    const { sha256: _, ...unsummed } = version;
    const bad = [
      undefined,
      null,
      { experts: {} },
      { experts: [unsummed] },
      { experts: [{ ...version, path: 7 }] },
    ];
    for (const data of [[{ path: version.data[0]!.path }], [null]])
      bad.push({ experts: [{ ...version, data }] });
    for (const update of bad) {
      await expect(backend.update(update as never), JSON.stringify(update)).rejects.toMatchObject({
        code: 'TURNOUT_OPTIONS_INVALID',
      });
    }
  });

  it('whose bytes are others is refused, and all stays as it was', async () => {
    const { before } = await expectations();
    await using backend = await open();
    const version = versionOf(1, fresh.files[1]!.path);
    const wrong = [
      { ...version, sha256: '0'.repeat(64) },
      { ...version, data: [{ ...version.data[0]!, sha256: '0'.repeat(64) }] },
    ];
    for (const experts of wrong) {
      await expect(backend.update({ experts: [experts] })).rejects.toMatchObject({
        code: 'TURNOUT_EXPERT_CHANGED',
      });
    }
    const missing = { ...version, path: join(old.folder, 'absent.onnx') };
    await expect(backend.update({ experts: [missing] })).rejects.toMatchObject({
      code: 'TURNOUT_FILE_MISSING',
    });
    const broken = join(old.folder, 'broken.onnx');
    await writeFile(broken, 'not a graph');
    const unreadable = { expert: 1, path: broken, sha256: sha256(broken) };
    await expect(backend.update({ experts: [unreadable] })).rejects.toMatchObject({
      code: 'TURNOUT_SESSION_FAILED',
    });
    await expect(backend.update({ experts: [version, version] })).rejects.toMatchObject({
      code: 'TURNOUT_OPTIONS_INVALID',
    });
    await expect(backend.update({ experts: [{ ...version, expert: 4 }] })).rejects.toMatchObject({
      code: 'TURNOUT_OPTIONS_INVALID',
    });
    expect((await backend.run(all())).outputs).toEqual(before);
    expect(backend.lanes().map(({ restarts }) => restarts)).toEqual([0, 0]);
  });

  it('of another width is refused', async () => {
    const wide = await temporaryExperts({ ...SPEC, experts: 1, hidden: 16 });
    onTestFinished(() => wide.remove());
    await using backend = await open();
    const update = backend.update({ experts: [versionOf(0, wide.files[0]!.path)] });
    await expect(update).rejects.toMatchObject({ code: 'TURNOUT_EXPERT_INVALID' });
  });
});

describe('a new placement', () => {
  it('is applied under load: no call is lost, processes that fit stay', async () => {
    const expected = await expectations();
    await using backend = await open();
    const running = load(backend, expected);
    const [first] = pidsOf(backend);
    const placements = [
      [{ device: 'cpu', experts: [0, 1, 2, 3] }],
      [
        { device: 'cpu', experts: [0, 1, 2, 3] },
        { device: 'cpu', experts: [1] },
        { device: 'cpu', experts: [2, 3] },
      ],
      [
        { device: 'cpu', experts: [0, 1] },
        { device: 'cpu', experts: [2, 3, 1] },
      ],
    ];
    for (const placement of placements) {
      await backend.update({ placement });
      expect(backend.lanes().map(({ device, experts }) => ({ device, experts: [...experts] }))).toEqual(
        placement.map(({ device, experts }) => ({ device, experts: experts.toSorted() })),
      );
    }
    await running.stop();
    expect(running.seen.before).toBeGreaterThan(0);
    expect(pidsOf(backend)).toContain(first);
  });

  it('that cannot be had is refused, and all stays as it was', async () => {
    const { before } = await expectations();
    await using backend = await open();
    const bad = [
      [[{ device: 'cpu', experts: [0, 1, 2] }], 'TURNOUT_OPTIONS_INVALID'],
      [[{ device: 'cpu', experts: [0, 1, 2, 3, 4] }], 'TURNOUT_OPTIONS_INVALID'],
      [[{ device: 'nowhere:0', experts: [0, 1, 2, 3] }], 'TURNOUT_DEVICE_UNAVAILABLE'],
      [
        [
          { device: 'cpu', experts: [0, 1, 2, 3] },
          { device: 'cuda:0', experts: [0] },
        ],
        'TURNOUT_DEVICE_UNAVAILABLE',
      ],
    ] as const;
    for (const [placement, code] of bad) {
      await expect(backend.update({ placement })).rejects.toMatchObject({ code });
    }
    expect((await backend.run(all())).outputs).toEqual(before);
    expect(pidsOf(backend)).toHaveLength(2);
  });

  it('is refused once closed', async () => {
    const backend = await open();
    await backend.close();
    await expect(backend.update({ placement: [] })).rejects.toMatchObject({ code: 'TURNOUT_CLOSED' });
  });
});
