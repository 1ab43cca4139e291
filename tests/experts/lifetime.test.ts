import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type TemporaryExperts, temporaryExperts } from '../support/experts.js';
import { childrenOf, stateOf } from '../support/processes.js';

const HIDDEN = 64;
const HEAVY_ROWS = 30_000;
/** No expert process outlives its owner by more. */
const OUTLIVES_MS = 2000;

describe.skipIf(process.platform !== 'linux')('expert processes and the process that owns them', () => {
  let set: TemporaryExperts;
  beforeAll(async () => {
    set = await temporaryExperts({ experts: 4, hidden: HIDDEN, inner: 256, activation: 'swiglu' });
  });
  afterAll(() => set.remove());

  /** A program with `backend`, `heavy` and `pids`; it prints its expert processes first. */
  function owner(script: string): ChildProcess {
    const url = new URL('../../dist/src/experts/processes.js', import.meta.url).href;
    const program = `
      import { openProcesses } from ${JSON.stringify(url)};
      const backend = await openProcesses(${JSON.stringify(set.files)}, { devices: ['cpu'] });
      const x = { rows: 1, cols: ${HIDDEN}, data: new Float32Array(${HIDDEN}) };
      const heavy = [0, 1, 2, 3].map((expert) => ({ expert, x, rows: new Int32Array(${HEAVY_ROWS}) }));
      const pids = backend.lanes().map((lane) => lane.process.pid);
      console.log(JSON.stringify(pids));
      ${script}`;
    const cwd = fileURLToPath(new URL('../..', import.meta.url));
    const args = ['--input-type=module', '--eval', program];
    return spawn(process.execPath, args, { cwd, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
  }

  async function pidsOf(child: ChildProcess): Promise<number[]> {
    const [line] = await once(child.stdout!.setEncoding('utf8'), 'data');
    return JSON.parse(line.split('\n')[0]);
  }

  async function expectGone(pids: readonly number[]): Promise<void> {
    expect(pids).toHaveLength(4);
    const from = performance.now();
    // Zombies of an owner that is gone are for the system to bury.
    while (pids.some((pid) => ![undefined, 'Z'].includes(stateOf(pid)))) {
      expect(performance.now() - from).toBeLessThan(OUTLIVES_MS);
      await sleep(5);
    }
  }

  const IDLE = 'setInterval(() => {}, 1000);';
  const BUSY = `${IDLE} for (;;) await backend.run(heavy);`;

  for (const [state, script] of Object.entries({ idle: IDLE, busy: BUSY })) {
    it(`end with it when it is killed, ${state}`, async () => {
      const child = owner(script);
      const pids = await pidsOf(child);
      await sleep(100);
      child.kill('SIGKILL');
      await expectGone(pids);
    });

    it(`end with it when it is killed, ${state} and stopped`, async () => {
      const child = owner(script);
      const pids = await pidsOf(child);
      await sleep(100);
      for (const pid of pids) process.kill(pid, 'SIGSTOP');
      child.kill('SIGKILL');
      await expectGone(pids);
    });
  }

  it('end with it when it is ended by a signal to all of its group', async () => {
    const child = owner(BUSY);
    const pids = await pidsOf(child);
    process.kill(-child.pid!, 'SIGINT');
    await expectGone(pids);
  });

  it('go on after a Ctrl-C that it survives', async () => {
    const child = owner(`process.on('SIGINT', async () => {
      await backend.run(heavy);
      console.log('lanes', backend.lanes().every(({ restarts }) => restarts === 0));
      await backend.close();
      process.exit();
    }); ${IDLE}`);
    const pids = await pidsOf(child);
    // It listens right after it has said who they are.
    await sleep(200);
    process.kill(-child.pid!, 'SIGINT');
    const [line] = await once(child.stdout!, 'data');
    expect(line).toBe('lanes true\n');
    await once(child, 'exit');
    await expectGone(pids);
  });

  it('are reaped before it exits by itself', async () => {
    const child = owner(`backend.run(heavy).catch(() => {}); setTimeout(() => process.exit(7), 50);`);
    const pids = await pidsOf(child);
    const [code] = await once(child, 'exit');
    expect(code).toBe(7);
    expect(pids.map(stateOf)).toEqual(pids.map(() => undefined));
  });

  it('do not keep it when it has nothing else to do', async () => {
    const child = owner(`await backend.run(heavy.slice(0, 1)); console.log('done');`);
    const pids = await pidsOf(child);
    const [code] = await once(child, 'exit');
    expect(code).toBe(0);
    await expectGone(pids);
  });

  it('keep it while a call waits for one that was killed', async () => {
    const child = owner(`
      for (const pid of pids) process.kill(pid, 'SIGKILL');
      console.log((await backend.run(heavy)).outputs.length);
      await backend.close();`);
    await pidsOf(child);
    const [line] = await once(child.stdout!, 'data');
    expect(line).toBe('4\n');
    expect((await once(child, 'exit'))[0]).toBe(0);
  });

  it('are gone, and reaped, after close', async () => {
    const child = owner(`await backend.run(heavy); await backend.close(); console.log('closed'); ${IDLE}`);
    const pids = await pidsOf(child);
    const [line] = await once(child.stdout!, 'data');
    expect(line).toBe('closed\n');
    expect(pids.map(stateOf)).toEqual(pids.map(() => undefined));
    expect(childrenOf(child.pid!)).toEqual([]);
    child.kill('SIGKILL');
  });
});
