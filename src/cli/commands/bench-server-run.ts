import { whole } from '../../../bench/layer/flags.js';
import { FORMAT, tablesOf } from '../../../bench/server/report.js';
import type { Settings } from '../../../bench/server/settings.js';
import { benchServer } from '../../../bench/server.bench.js';
import { TurnoutError } from '../../errors.js';
import type { Residency } from '../../experts/backend.js';
import { readPackage } from '../../model/package.js';
import { type BackendFlags, backendOptions } from '../backend-options.js';
import { BUNDLED } from '../packages.js';
import { type ReportFlags, runReport } from './bench-report.js';

export interface BenchServerFlags extends ReportFlags, BackendFlags {
  readonly package?: string;
  readonly clients: string;
  readonly tokens: number;
  readonly seconds: number;
  readonly rounds: number;
  readonly overload?: true;
  readonly minutes: number;
  readonly residency: Residency;
}

/** More than these are typing errors. */
const MOST = { clients: 4096, tokens: 1_048_576, seconds: 86_400, rounds: 10_000, minutes: 1440 } as const;

/** What `turnout bench server` does. */
export async function benchServerRun(flags: BenchServerFlags): Promise<void> {
  const settings = await settingsOf(flags);
  // Before a server starts: what is wrong with it is told as it is.
  await readPackage(settings.package);
  await runReport(flags, { format: FORMAT, run: (watch) => benchServer(settings, watch), tables: tablesOf });
}

/** Throws TURNOUT_OPTIONS_INVALID. */
async function settingsOf(flags: BenchServerFlags): Promise<Settings> {
  const { tokens, seconds, rounds, minutes, overload } = flags;
  const clients = flags.clients.split(',').map(Number);
  for (const count of clients) whole('--clients', count, [1, MOST.clients]);
  whole('--tokens', tokens, [2, MOST.tokens]);
  whole('--seconds', seconds, [1, MOST.seconds]);
  whole('--rounds', rounds, [1, MOST.rounds]);
  whole('--minutes', minutes, [2, MOST.minutes]);
  if (overload && process.platform !== 'linux') {
    const message = `--overload: reads the memory of the server from Linux, this is ${process.platform}`;
    throw new TurnoutError('TURNOUT_OPTIONS_INVALID', message, { platform: process.platform });
  }
  return {
    only: ['throughput', ...(overload ? (['overload'] as const) : [])],
    package: flags.package ?? BUNDLED,
    model: await backendOptions(flags),
    clients,
    tokens,
    rounds,
    seconds,
    minutes,
    node: [],
  };
}
