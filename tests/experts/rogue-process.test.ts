import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { wholeBatch } from '#turnout/experts/batches.js';
import { openInline } from '#turnout/experts/inline.js';
import { openProcesses } from '#turnout/experts/processes.js';

import { type TemporaryExperts, temporaryExperts } from '../support/experts.js';

const HIDDEN = 64;
const program = fileURLToPath(new URL('../support/rogue-host.mjs', import.meta.url));

/** Fault of the process -> what the lane says of its death. */
const FAULTS: Record<string, RegExp> = {
  garbage: /header bytes: expected 1 to \d+, got/,
  truncated: /ends within a frame/,
  oversized: /frame bytes: expected 1 to \d+, got 4294967295/,
  replayed: /expected none, got ran 2/,
  id: /expected ran 2, got ran 999/,
  op: /expected ran 2, got closed 2/,
  rows: /expected y \[1, 64\], got \[7, 64\]/,
  cols: /expected y \[1, 64\], got \[1, 3\]/,
  batches: /expected 1 batches of 1 rows, got 5 of 1/,
  elsewhere: /expected y in shared memory/,
  shortened: /expected y in shared memory, got less/,
  unfinished: /expected 1 batches of 1 rows, got 0 of 0/,
  silent: /gave no answer in 300 ms/,
  exit: /exited with code 3/,
  abort: /SIGABRT/,
  memory: /had no memory left/,
};

/** Faults of what travels through shared memory. */
const SHARED = ['elsewhere', 'shortened'];

describe('a process that breaks the rules of its link', () => {
  let set: TemporaryExperts;
  beforeAll(async () => {
    set = await temporaryExperts({ experts: 1, hidden: HIDDEN, inner: 16, activation: 'relu' });
    process.env.ROGUE_ONCE = join(set.folder, 'once');
  });
  afterEach(() => void delete process.env.ROGUE_FAULT);
  afterAll(async () => {
    delete process.env.ROGUE_ONCE;
    await set.remove();
  });

  for (const [fault, reason] of Object.entries(FAULTS)) {
    it.skipIf(SHARED.includes(fault) && process.platform !== 'linux')(
      `by ${fault} is replaced, and the call ends with the right numbers`,
      async () => {
        process.env.ROGUE_FAULT = fault;
        await writeFile(process.env.ROGUE_ONCE!, '');
        await using backend = await openProcesses(set.files, {
          program,
          ...(fault === 'silent' && { limits: { answerMs: 300 } }),
        });
        // Many rows travel through shared memory, few through the link.
        const rows = SHARED.includes(fault) ? 256 : 1;
        const call = [wholeBatch(0, new Float32Array(rows * HIDDEN).fill(0.5), HIDDEN)];
        await using inline = await openInline(set.files);
        const [expected] = (await inline.run(call)).outputs;
        expect((await backend.run(call)).outputs[0]).toEqual(expected);
        expect(existsSync(process.env.ROGUE_ONCE!)).toBe(false);
        // A second answer comes after the right one: its link ends later.
        await expect.poll(() => backend.lanes()[0]!.process!.lastDeath).toMatch(reason);
        expect((await backend.run(call)).outputs[0]).toEqual(expected);
        expect(backend.lanes()[0]).toMatchObject({ restarts: 1, state: 'ready' });
      },
    );
  }
});
