import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { LaneEvent } from '../../src/experts/process-lane.js';
import { openProcesses, type ProcessesBackend } from '../../src/experts/processes.js';
import { makeExperts } from '../support/experts.js';
import { percentile, samplesOf } from '../support/measure.js';
import { printTable } from '../support/table.js';
import { CallLoad } from './call-load.js';
import { type Bench, TWO_CORES } from './settings.js';

/** Experts of every process, small, so that the start of the process is what takes time; beside H. */
const SET = { experts: 4, inner: 64, activation: 'relu' } as const;
/** Of each expert in each call. */
const ROWS = 4;
/** Between a recovery and the next kill, with some more so that kills do not keep step with calls. */
const CALM_MS = 100;
const MORE_CALM_MS = 7;

const SETUPS = [
  { name: 'one lane', devices: ['cpu'] },
  { name: 'two lanes, replicas', devices: TWO_CORES },
] as const;

interface Spread {
  readonly p50: number;
  readonly p90: number;
  readonly max: number;
}

/** All in milliseconds; after the kill where nothing else is said. */
export interface RecoveryFigure {
  readonly setup: string;
  readonly lanes: number;
  /** What each process holds, and what each call asks of each expert. */
  readonly experts: { readonly experts: number; readonly hidden: number; readonly inner: number };
  readonly rowsPerExpert: number;
  readonly kills: number;
  /** The lane is known to be dead. */
  readonly noticed: Spread;
  /** Another process is ready for calls. */
  readonly ready: Spread;
  /** The first call that this process has computed (a part of) is answered. */
  readonly answered: Spread;
  /** The longest call of those that ended between the kill and `answered`. */
  readonly longestCall: Spread;
  /** Calls that ended in the calm before kills. */
  readonly calmCall: Spread;
}

/** Kills expert processes under calls that follow one another without a pause, one kill after the other. */
export async function recovery({ settings, folder }: Bench): Promise<RecoveryFigure[]> {
  const { hidden, kills } = settings;
  const { files } = await makeExperts(join(folder, 'small'), { ...SET, hidden });
  const figures: RecoveryFigure[] = [];
  for (const { name, devices } of SETUPS) {
    const replicas = devices.length;
    await using backend = await openProcesses(files, { devices, oneProcessPer: 'device', replicas });
    const times = await killOften(backend, kills);
    const experts = { experts: SET.experts, hidden, inner: SET.inner };
    figures.push({ setup: name, lanes: replicas, experts, rowsPerExpert: ROWS, kills, ...times });
  }
  printTable(`Recovery of ${kills} killed processes, ms: p50 / p90 / max`, figures.map(tableRow));
  return figures;
}

type Times = Record<keyof Seen | 'calmCall', Spread>;

async function killOften(backend: ProcessesBackend, kills: number): Promise<Times> {
  const load = await CallLoad.start(backend, ROWS);
  const seen: Seen[] = [];
  const calm: number[] = [];
  for (let i = 0; i < kills; i++) {
    const begin = performance.now();
    await sleep(CALM_MS + MORE_CALM_MS * (i % 5));
    calm.push(...load.between(begin, performance.now()));
    seen.push(await Promise.race([killOnce(backend, i % backend.lanes().length, load), load.failed]));
  }
  await load.stop();
  const over = (key: keyof Seen) => spreadOf(seen.map((times) => times[key]));
  return {
    noticed: over('noticed'),
    ready: over('ready'),
    answered: over('answered'),
    longestCall: over('longestCall'),
    calmCall: spreadOf(calm),
  };
}

type Seen = Readonly<Record<'noticed' | 'ready' | 'answered' | 'longestCall', number>>;

async function killOnce(backend: ProcessesBackend, lane: number, load: CallLoad): Promise<Seen> {
  const pid = backend.lanes()[lane]!.process!.pid!;
  const callsOf = () => backend.lanes()[lane]!.calls;
  const changes = watchLane(lane, pid, callsOf);
  const killedAt = performance.now();
  process.kill(pid, 'SIGKILL');
  const { deadAt, readyAt, calls } = await changes;
  const answeredAt = await load.until(() => callsOf() > calls);
  return {
    noticed: deadAt - killedAt,
    ready: readyAt - killedAt,
    answered: answeredAt - killedAt,
    longestCall: Math.max(...load.between(killedAt, answeredAt)),
  };
}

/** Resolves once the lane has a process other than `pid`, with the calls that it had answered by then. */
function watchLane(
  lane: number,
  pid: number,
  callsOf: () => number,
): Promise<{ deadAt: number; readyAt: number; calls: number }> {
  return new Promise((resolve) => {
    let deadAt = 0;
    const onEvent = (message: unknown) => {
      const event = message as LaneEvent;
      if (event.lane !== lane) return;
      if (event.state === 'dead') deadAt ||= performance.now();
      if (event.state !== 'ready' || event.pid === pid) return;
      unsubscribe('turnout:lane', onEvent);
      resolve({ deadAt, readyAt: performance.now(), calls: callsOf() });
    };
    subscribe('turnout:lane', onEvent);
  });
}

function spreadOf(values: readonly number[]): Spread {
  const samples = samplesOf(values);
  return { p50: percentile(samples, 0.5), p90: percentile(samples, 0.9), max: percentile(samples, 1) };
}

function tableRow(figure: RecoveryFigure): Record<string, string | number> {
  const cell = ({ p50, p90, max }: Spread) => [p50, p90, max].map((ms) => ms.toFixed(1)).join(' / ');
  return {
    setup: figure.setup,
    noticed: cell(figure.noticed),
    'ready again': cell(figure.ready),
    'first answer': cell(figure.answered),
    'longest call': cell(figure.longestCall),
    'calls in calm': cell(figure.calmCall),
  };
}
