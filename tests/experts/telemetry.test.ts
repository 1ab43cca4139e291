import { execFile } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { promisify } from 'node:util';
import { describe, expect, it, onTestFinished } from 'vitest';
import { temporaryFolder } from '../support/babel.js';
import { temporaryExperts } from '../support/experts.js';

const BACKENDS = {
  inline: `(await import(dist + 'inline.js')).openInline(files)`,
  threads: `(await import(dist + 'threads.js')).openThreads(files, { lanes: 1 })`,
  processes: `(await import(dist + 'processes.js')).openProcesses(files)`,
};

/** Files that a program leaves in the temporary folder which opens a backend. */
async function filesOf(open: string, env: Record<string, string> = {}): Promise<string[]> {
  const set = await temporaryExperts({ experts: 1, hidden: 8, inner: 16, activation: 'relu' });
  onTestFinished(() => set.remove());
  const folder = temporaryFolder();
  const program = `
    const dist = ${JSON.stringify(new URL('../../dist/src/experts/', import.meta.url).href)};
    const files = ${JSON.stringify(set.files)};
    const backend = await ${open};
    await backend.close();`;
  // Nothing else is handed down: CI, GITHUB_ACTIONS and their like turn telemetry off by themselves.
  const options = { env: { PATH: process.env.PATH, HOME: folder, TMPDIR: folder, ...env } };
  await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', program], options);
  return readdirSync(folder);
}

describe("ONNX Runtime's telemetry", () => {
  it.each(Object.entries(BACKENDS))('is off with %s', async (_, open) => {
    expect(await filesOf(open)).toEqual([]);
  });

  // Shows that the others can fail; other builds have none.
  it.runIf(process.platform === 'linux' && process.arch === 'x64')(
    'is on where it is asked for',
    async () => {
      expect(await filesOf(BACKENDS.inline, { ORT_DISABLE_TELEMETRY: '0' })).not.toEqual([]);
    },
  );
});
