import { describe, expect, it } from 'vitest';
import { Kernel } from '#turnout/router/kernels/kernel.js';

/** What a function that stores one int32 at address 0 stores there. */
function stored(instructions: string, ...args: number[]): number {
  const kernel = new Kernel(`(func (param $x i32) (param $y i32) (local $n i32) ${instructions})`);
  const { ints } = kernel.memory(1);
  kernel.run(...args);
  return ints[0]!;
}

describe('assemble', () => {
  it('encodes numbers of every length', () => {
    for (const value of [0, 1, 63, 64, -1, -64, -65, 8191, 8192, 2 ** 31 - 1, -(2 ** 31)]) {
      expect(stored(`(i32.store (i32.const 0) (i32.const ${value}))`)).toBe(value);
    }
  });

  it('keeps the order of operands', () => {
    expect(stored('(i32.store (i32.const 0) (i32.sub (local.get $x) (local.get $y)))', 7, 3)).toBe(4);
  });

  it('leaves a block and repeats a loop by their names, through an if', () => {
    const sum = `
      ;; x + (x - 1) + ... + 1
      (block $done (loop $again
        (if (i32.eqz (local.get $x)) (then (br $done)))
        (local.set $n (i32.add (local.get $n) (local.get $x)))
        (local.set $x (i32.sub (local.get $x) (i32.const 1)))
        (br $again)))
      (i32.store (i32.const 0) (local.get $n))`;
    expect(stored(sum, 5)).toBe(15);
  });

  it('refuses an instruction that it does not know', () => {
    expect(() => stored('(i32.popcnt (local.get $x))')).toThrow('i32.popcnt');
  });

  it('has memory for as much as is asked for, and keeps what is in it', () => {
    const kernel = new Kernel('(func (param $x i32) (i32.store (i32.const 0) (local.get $x)))');
    kernel.memory(1);
    kernel.run(42);
    const { ints, floats } = kernel.memory(1_000_000);
    expect([ints[0], floats.length >= 1_000_000]).toEqual([42, true]);
  });
});
