import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { wholeBatch } from '#turnout/experts/batches.js';
import { openProcesses } from '#turnout/experts/processes.js';

import { temporaryExperts } from '../support/experts.js';

describe('profile', () => {
  it('leaves a file of every expert of every process', async () => {
    const set = await temporaryExperts({ experts: 1, hidden: 8, inner: 16, activation: 'relu' });
    try {
      const profile = join(set.folder, 'profiles');
      await mkdir(profile);
      const backend = await openProcesses(set.files, { devices: ['cpu', 'cpu'], replicas: 2, profile });
      await backend.run([wholeBatch(0, new Float32Array(8), 8)]);
      await backend.close();
      const files = (await readdir(profile, { recursive: true })).filter((name) => name.endsWith('.json'));
      expect(files).toHaveLength(2);
    } finally {
      await set.remove();
    }
  });
});
