import { createHash } from 'node:crypto';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';

/** The trained package of the repository. */
export const BABEL = join(import.meta.dirname, '..', '..', 'experts', 'babel');

/** A folder that is gone when the test is over. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'turnout-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A copy of babel that a test may damage. */
export function copyOfBabel(): string {
  const folder = join(temporaryFolder(), 'babel');
  cpSync(BABEL, folder, { recursive: true, filter: (path) => !path.endsWith('/training') });
  return folder;
}

// biome-ignore lint/suspicious/noExplicitAny: tests write manifests that no type allows
export function editManifest(folder: string, edit: (manifest: any) => void): void {
  const path = join(folder, 'manifest.json');
  const manifest = JSON.parse(readFileSync(path, 'utf8'));
  edit(manifest);
  writeFileSync(path, JSON.stringify(manifest));
}

/** Changes a file of the package and lists it with the checksum that it has then. */
export function rewrite(folder: string, file: string, edit: (data: Buffer) => Buffer): void {
  const data = edit(readFileSync(join(folder, file)));
  writeFileSync(join(folder, file), data);
  editManifest(folder, (manifest) => {
    manifest.files[file] = { bytes: data.length, sha256: createHash('sha256').update(data).digest('hex') };
  });
}
