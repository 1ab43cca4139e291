import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pythonTool } from './python-tool.js';

const found = pythonTool('schemathesis');
export const fuzzerMissing = found.missing;

const OPTIONS = [
  // Nothing that a schema allows or forbids may break the server; answers are what the document says.
  ...[
    '--checks',
    'not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance',
  ],
  ...['--phases', 'coverage,fuzzing', '--max-examples', '40', '--seed', '1', '--continue-on-failure'],
  // Endless, and files.
  ...['--exclude-path-regex', '^/v1/routing/events|^/docs|^/assets|^/$'],
  ...['--warnings', 'off', '--no-color'],
];

/** Schemathesis against the server that a document describes: the number of requests, and the text of each failure. */
export async function fuzz(document: string): Promise<{ cases: number; failures: string[] }> {
  const folder = mkdtempSync(join(tmpdir(), 'turnout-fuzz-'));
  try {
    const output = await new Promise<string>((resolve) => {
      const program = join(found.bin!, 'schemathesis');
      // It ends with 1 where it found something.
      execFile(
        program,
        ['run', document, ...OPTIONS],
        { cwd: folder, maxBuffer: 2 ** 26 },
        (_, stdout, stderr) => resolve(stdout + stderr),
      );
    });
    const [, cases] = /(\d+) generated/.exec(output) ?? [];
    if (cases === undefined) throw new Error(`schemathesis did not run:\n${output}`);
    return { cases: Number(cases), failures: output.split(/^\d+\. Test Case ID/m).slice(1) };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
