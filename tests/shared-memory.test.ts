import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { memoryOf, ROOM_BYTES, shareMemory } from '#turnout/shared-memory.js';

const MODULE = import.meta.resolve('#turnout/shared-memory.js');

/** Makes ten in a process that may set aside so many KiB of addresses; how many of them kernels can work in. */
async function madeWithin(kib: number): Promise<{ lengths: number[]; forKernels: number }> {
  const program = `
    import { memoryOf, shareMemory } from ${JSON.stringify(MODULE)};
    const made = Array.from({ length: 10 }, () => shareMemory(1000));
    for (const memory of made) new Uint8Array(memory).fill(1);
    const lengths = made.map(({ byteLength }) => byteLength);
    console.log(JSON.stringify({ lengths, forKernels: made.filter(memoryOf).length }));`;
  const command = `ulimit -v ${kib} && exec ${process.execPath} --input-type=module -e "$0"`;
  const { stdout } = await promisify(execFile)('sh', ['-c', command, program]);
  return JSON.parse(stdout);
}

describe('memory for threads to share', () => {
  it('holds what is asked for, and behind it the room of kernels', () => {
    for (const bytes of [0, 1, 65_536, 1_000_000]) {
      const memory = shareMemory(bytes);
      expect(memory).toBeInstanceOf(SharedArrayBuffer);
      expect(memory.byteLength).toBeGreaterThanOrEqual(bytes + ROOM_BYTES);
      expect(memoryOf(memory)?.buffer).toBe(memory);
    }
  });

  it('is none that kernels can work in where others made it', () => {
    expect(memoryOf(new SharedArrayBuffer(8))).toBeUndefined();
    expect(memoryOf(new ArrayBuffer(8))).toBeUndefined();
  });

  it.runIf(process.platform === 'linux')('is plain where addresses are few', async () => {
    // Each that kernels can work in takes 10 GiB of them.
    const { lengths, forKernels } = await madeWithin(40_000_000);
    expect(forKernels).toBeLessThan(10);
    expect(new Set(lengths)).toEqual(new Set([shareMemory(1000).byteLength]));
  });
});
