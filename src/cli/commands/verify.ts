import { Command } from 'commander';
import type { TurnoutError } from '../../errors.js';
import { packageProblems, readPackage } from '../../model/package.js';
import { BUNDLED, progressLine } from '../packages.js';
import { EXIT, print } from '../support.js';

const EXAMPLE = `
Example:
  $ turnout verify experts/babel
  babel: 89 files, 15.2 MB: every byte, path and shape is as the manifest says`;

/** `turnout verify`: every byte, path and shape of a package, before anything is run. */
export const verifyCommand = new Command('verify')
  .description('Check every byte, path and shape of a package.')
  .argument('[dir]', 'folder of the package; the bundled one where left out', BUNDLED)
  .option('--json', 'print the result as JSON')
  .addHelpText('after', EXAMPLE)
  .action(verify);

async function verify(folder: string, { json }: { json?: true }): Promise<void> {
  const pkg = await readPackage(folder);
  const progress = progressLine();
  const problems: TurnoutError[] = [];
  const onProgress = (done: number, total: number, file: string) =>
    progress.update(`${done} of ${total}: ${file}`);
  for await (const problem of packageProblems(pkg, { onProgress })) problems.push(problem);
  progress.clear();
  if (problems.length > 0) process.exitCode = EXIT.failed;
  const { name, files } = pkg.manifest;
  const bytes = Object.values(files).reduce((sum, file) => sum + file.bytes, 0);
  const count = Object.keys(files).length;
  if (json) {
    const listed = problems.map(({ code, message, details }) => ({ code, message, details }));
    return print(
      JSON.stringify({ name, files: count, bytes, ok: problems.length === 0, problems: listed }, null, 2),
    );
  }
  for (const { code, message } of problems) process.stderr.write(`${code}: ${message}\n`);
  if (problems.length > 0)
    return print(
      `${name}: ${problems.length} problem${problems.length === 1 ? '' : 's'}; do not use this copy`,
    );
  return print(
    `${name}: ${count} files, ${(bytes / 1e6).toFixed(1)} MB: every byte, path and shape is as the manifest says`,
  );
}
