import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { wholeBatch } from '#turnout/experts/batches.js';
import { openInline } from '#turnout/experts/inline.js';
import { backendContract } from '../contracts/backend.contract.js';
import { type TemporaryExperts, temporaryExperts } from '../support/experts.js';

backendContract('inline', openInline);

describe('large calls one after the other', () => {
  const hidden = 1024;
  const calls = 24;
  const rows = 256;
  let experts: TemporaryExperts;
  beforeAll(async () => {
    experts = await temporaryExperts({ experts: 1, hidden, inner: 16, activation: 'relu', seed: 1 });
  });
  afterAll(() => experts.remove());

  it('leave no garbage to collect where the outputs are lent', async () => {
    await using backend = await openInline(experts.files);
    const x = new Float32Array(rows * hidden).fill(0.1);
    const run = async () => (await backend.run([wholeBatch(0, x, hidden)], { lend: true })).recycle!();
    await run();
    const before = process.memoryUsage().arrayBuffers;
    for (let i = 0; i < calls; i++) await run();
    // Of one call x and y, 1 MiB each.
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 * x.byteLength);
  });
});
