import { closeSync, openSync, readdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { openPayloadFile, PayloadFile } from '#turnout/experts/payload-file.js';

describe.skipIf(process.platform !== 'linux')('shared memory of a carrier and a process', () => {
  it('gives back what was put in, and has no name', () => {
    const file = new PayloadFile(openPayloadFile()!);
    const bytes = Uint8Array.from({ length: 300_000 }, (_, i) => i % 251);
    expect(file.write(bytes)).toBe(true);
    const back = new Uint8Array(bytes.length);
    expect(file.read(back)).toBe(true);
    expect(Buffer.compare(back, bytes)).toBe(0);
    expect(readdirSync('/dev/shm').filter((name) => name.startsWith(`turnout-${process.pid}-`))).toEqual([]);
    file.close();
  });

  it('says where it has less than is asked for, or no room', () => {
    const file = new PayloadFile(openPayloadFile()!);
    file.write(new Uint8Array(10));
    expect(file.read(new Uint8Array(11))).toBe(false);
    file.close();
    const full = openSync('/dev/full', 'w');
    expect(new PayloadFile(full).write(new Uint8Array(10))).toBe(false);
    closeSync(full);
  });
});
