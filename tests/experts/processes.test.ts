import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { wholeBatch } from '#turnout/experts/batches.js';
import { openProcesses, type ProcessesOptions } from '#turnout/experts/processes.js';
import { backendContract } from '../contracts/backend.contract.js';
import { type TemporaryExperts, temporaryExperts } from '../support/experts.js';
import { childrenOf, pidsOf } from '../support/processes.js';

const PER_DEVICE = { devices: ['cpu', 'cpu'], oneProcessPer: 'device' } as const;

backendContract('processes', (files, options) => openProcesses(files, options));
describe('one per device', () => {
  backendContract('processes', (files, options) => openProcesses(files, { ...options, ...PER_DEVICE }));
});
describe('one per device, with replicas', () => {
  backendContract('processes', (files, options) =>
    openProcesses(files, { ...options, ...PER_DEVICE, replicas: 2 }),
  );
});

describe('processes', () => {
  const HIDDEN = 32;
  let set: TemporaryExperts;
  beforeAll(async () => {
    set = await temporaryExperts({ experts: 5, hidden: HIDDEN, inner: 48, activation: 'relu' });
  });
  afterAll(() => set.remove());
  const open = (options: ProcessesOptions = {}) => openProcesses(set.files, options);
  const places = (backend: Awaited<ReturnType<typeof open>>) =>
    backend.lanes().map(({ device, experts }) => [device, ...experts]);

  it('are one for each expert on CPUs, dealt to the devices in turn', async () => {
    await using backend = await open({ devices: ['cpu:0', 'cpu'] });
    expect(places(backend)).toEqual([
      ['cpu:0', 0],
      ['cpu:0', 2],
      ['cpu:0', 4],
      ['cpu', 1],
      ['cpu', 3],
    ]);
    expect(new Set(pidsOf(backend)).size).toBe(5);
  });

  it('are one for each device where that is asked for, with replicas', async () => {
    await using backend = await open({
      devices: ['cpu', 'cpu', 'cpu'],
      oneProcessPer: 'device',
      replicas: 2,
    });
    expect(places(backend)).toEqual([
      ['cpu', 0, 2, 3],
      ['cpu', 0, 1, 3, 4],
      ['cpu', 1, 2, 4],
    ]);
  });

  it('follow a placement', async () => {
    const placement = [
      { device: 'cpu', experts: [4, 0, 1] },
      { device: 'cpu:0', experts: [2, 3, 0] },
    ];
    await using backend = await open({ placement });
    expect(places(backend)).toEqual([
      ['cpu', 0, 1, 4],
      ['cpu:0', 0, 2, 3],
    ]);
    expect(
      (await backend.run([0, 1, 2, 3, 4].map((e) => wholeBatch(e, new Float32Array(HIDDEN), HIDDEN))))
        .outputs,
    ).toHaveLength(5);
  });

  it('map the experts that they hold, and no others', async () => {
    await using backend = await open({ ...PER_DEVICE, residency: 'mapped' });
    for (const { experts, process } of backend.lanes()) {
      const maps = readFileSync(`/proc/${process!.pid}/maps`, 'latin1');
      const mapped = [0, 1, 2, 3, 4].filter((expert) => maps.includes(`expert-00${expert}.bin`));
      expect(mapped).toEqual(experts);
    }
  });

  it('tell what they are and have done', async () => {
    await using backend = await open(PER_DEVICE);
    const running = backend.run([
      wholeBatch(0, new Float32Array(5 * HIDDEN), HIDDEN),
      wholeBatch(2, new Float32Array(HIDDEN), HIDDEN),
    ]);
    expect(backend.lanes()[0]).toMatchObject({ state: 'busy', queue: 1 });
    await running;
    const [first, second] = backend.lanes();
    expect(first).toMatchObject({
      ...{ lane: 0, device: 'cpu', provider: 'cpu', state: 'ready', queue: 0, experts: [0, 2, 4] },
      ...{ calls: 1, batches: 2, rows: 6, restarts: 0 },
      process: { pid: expect.any(Number), circuit: 'closed' },
    });
    expect(first!.computeMs).toBeGreaterThan(0);
    expect(first!.process!.rssBytes).toBeGreaterThan(20e6);
    expect(first!.process!.privateBytes).toBeLessThan(first!.process!.rssBytes);
    expect(second).toMatchObject({ lane: 1, calls: 0, rows: 0, experts: [1, 3] });
  });

  it('start side by side, as many as allowed, and say how far they are', async () => {
    const placement = Array.from({ length: 64 }, (_, i) => ({ device: 'cpu', experts: [i % 5] }));
    const seen: [number, number][] = [];
    const before = new Set(childrenOf(process.pid));
    let most = 0;
    let open_ = true;
    const watching = (async () => {
      while (open_) {
        const started = childrenOf(process.pid).filter((pid) => !before.has(pid)).length;
        most = Math.max(most, started - (seen.at(-1)?.[0] ?? 0));
        await sleep(5);
      }
    })();
    const onProgress = (ready: number, total: number) => void seen.push([ready, total]);
    await using backend = await open({ placement, start: { concurrency: 3, onProgress } });
    open_ = false;
    await watching;
    expect(seen).toEqual(Array.from({ length: 65 }, (_, ready) => [ready, 64]));
    // One that was told to be ready may have a successor before it is counted.
    expect(most).toBeGreaterThan(1);
    expect(most).toBeLessThanOrEqual(4);
    expect(new Set(pidsOf(backend)).size).toBe(64);
  }, 120_000);

  it('leave no process behind where one cannot start', async () => {
    const before = childrenOf(process.pid);
    const files = [...set.files, { path: `${set.folder}/absent.onnx` }];
    await expect(openProcesses(files)).rejects.toMatchObject({ code: 'TURNOUT_FILE_MISSING' });
    const placement = [
      { device: 'cpu', experts: [0, 1, 2, 3, 4] },
      { device: 'nowhere', experts: [0] },
    ];
    await expect(open({ placement })).rejects.toMatchObject({ code: 'TURNOUT_DEVICE_UNAVAILABLE' });
    expect(childrenOf(process.pid)).toEqual(before);
  });

  it('refuse options that cannot be', async () => {
    const ALL = [{ device: 'cpu', experts: [0, 1, 2, 3, 4] }];
    const bad: ProcessesOptions[] = [
      { devices: [] },
      { devices: ['gpu!'] },
      { devices: ['cpu'], replicas: 2 },
      { replicas: 0 },
      { oneProcessPer: 'layer' as 'expert' },
      { devices: 'cpu:0' as never },
      { devices: [undefined] as never },
      { placement: {} as never },
      { placement: [null] as never },
      { placement: [{ device: 'cpu' }] as never },
      { placement: [{ experts: [0, 1, 2, 3, 4] }] as never },
      { placement: [] },
      { placement: [{ device: 'cpu', experts: [0, 1, 2, 3, 3, 4] }] },
      {
        placement: [
          { device: 'cpu', experts: [0, 1, 2, 3, 4] },
          { device: 'cpu', experts: [] },
        ],
      },
      { placement: ALL, devices: ['cpu'] },
      { placement: ALL, oneProcessPer: 'device' },
      { placement: ALL, replicas: 1 },
      { start: { concurrency: 0 } },
      { limits: { answerMs: -1 } },
      { limits: { startMs: 0.5 } },
      { limits: { memoryBytes: Number.NaN } },
      { onLostExpert: 'ignore' as 'drop' },
      { residency: 'swapped' as 'mapped' },
    ];
    for (const options of bad) {
      await expect(open(options), JSON.stringify(options)).rejects.toMatchObject({
        code: 'TURNOUT_OPTIONS_INVALID',
      });
    }
    const many = Array.from({ length: 1025 }, () => ({ device: 'cpu', experts: [0, 1, 2, 3, 4] }));
    await expect(open({ placement: many })).rejects.toMatchObject({ code: 'TURNOUT_OPTIONS_INVALID' });
  });

  describe.skipIf(process.platform !== 'linux')('on CPUs', () => {
    it('are bound to those of their device', async () => {
      await using backend = await open({ devices: ['cpu:0', 'cpu'], oneProcessPer: 'device' });
      const cpus = pidsOf(backend).map(
        (pid) => /^Cpus_allowed_list:\s*(.*)$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))![1],
      );
      const own = /^Cpus_allowed_list:\s*(.*)$/m.exec(readFileSync('/proc/self/status', 'latin1'))![1];
      expect(cpus).toEqual(['0', own]);
    });

    it('that are not there, or not all, are refused', async () => {
      for (const device of ['cpu:4099', 'cpu:0-4099']) {
        await expect(open({ devices: [device], oneProcessPer: 'device' })).rejects.toMatchObject({
          code: 'TURNOUT_DEVICE_UNAVAILABLE',
          message: expect.stringContaining(device),
        });
      }
    });
  });
});
