import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ExpertSet, type ExpertsSpec, makeExperts } from '../../bench/support/experts.js';

export * from '../../bench/support/experts.js';

/** Experts in a folder of their own; `remove` deletes it. */
export interface TemporaryExperts extends ExpertSet {
  readonly folder: string;
  remove(): Promise<void>;
}

export async function temporaryExperts(spec: ExpertsSpec): Promise<TemporaryExperts> {
  const folder = await temporaryFolder();
  const remove = () => rm(folder, { recursive: true, force: true });
  return { ...(await makeExperts(folder, spec)), folder, remove };
}

function temporaryFolder(): Promise<string> {
  return mkdtemp(join(tmpdir(), 'turnout-test-'));
}
