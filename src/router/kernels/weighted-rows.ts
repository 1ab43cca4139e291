import { Kernel } from './kernel.js';

/*
 * Adds row i of $rows, times its weight, to the sum at address targets[i]. A row is $width bytes, a multiple of 16.
 * Products and sums are float32.
 */
const kernel = new Kernel(`
(func (param $count i32) (param $width i32) (param $targets i32) (param $weights i32) (param $rows i32)
  (local $to i32) (local $end i32) (local $weight v128)
  (block $done (loop $row
    (br_if $done (i32.eqz (local.get $count)))
    (local.set $to (i32.load (local.get $targets)))
    (local.set $weight (f32x4.splat (f32.load (local.get $weights))))
    (local.set $end (i32.add (local.get $rows) (local.get $width)))
    (loop $columns
      (v128.store (local.get $to) (f32x4.add
        (v128.load (local.get $to))
        (f32x4.mul (local.get $weight) (v128.load (local.get $rows)))))
      (local.set $to (i32.add (local.get $to) (i32.const 16)))
      (local.set $rows (i32.add (local.get $rows) (i32.const 16)))
      (br_if $columns (i32.lt_u (local.get $rows) (local.get $end))))
    (local.set $targets (i32.add (local.get $targets) (i32.const 4)))
    (local.set $weights (i32.add (local.get $weights) (i32.const 4)))
    (local.set $count (i32.sub (local.get $count) (i32.const 1)))
    (br $row))))`);

/** Floats that a block of sums and its rows should have in memory: what the second level of a cache holds. */
export const BLOCK = 512 * 1024;

/** Sums of weighted rows [sums, cols], added in the order of `add`. Only one at a time may be in use. */
export class WeightedRows {
  readonly #sums: number;
  readonly #cols: number;
  /** Floats from one row to the next: whole vectors. */
  readonly #stride: number;
  /** Where, in floats, the weights, the sums and the rows begin; the targets begin at 0. */
  readonly #at: { readonly weights: number; readonly sums: number; readonly rows: number };
  readonly #memory: ReturnType<Kernel['memory']>;
  #targeted = 0;
  #copied = 0;

  /** Room for `count` rows of `cols` columns. */
  constructor(sums: number, count: number, cols: number) {
    this.#sums = sums;
    this.#cols = cols;
    this.#stride = wholeVectors(cols);
    const start = wholeVectors(2 * count);
    this.#at = { weights: count, sums: start, rows: start + sums * this.#stride };
    this.#memory = kernel.memory(this.#at.rows + count * this.#stride);
    this.#memory.floats.fill(0, this.#at.sums, this.#at.rows);
  }

  /** The next row goes to `sum`, times `weight`. */
  target(sum: number, weight: number): void {
    this.#memory.ints[this.#targeted] = 4 * (this.#at.sums + sum * this.#stride);
    this.#memory.floats[this.#at.weights + this.#targeted] = weight;
    this.#targeted++;
  }

  /** The next `count` rows are those of `source` [n, cols] from row `from` on. */
  rows(source: Float32Array, from: number, count: number): void {
    const { floats } = this.#memory;
    const cols = this.#cols;
    if (cols === this.#stride) {
      const whole = source.length === count * cols;
      const values = whole ? source : source.subarray(from * cols, (from + count) * cols);
      floats.set(values, this.#at.rows + this.#copied * cols);
    } else {
      for (let r = 0; r < count; r++) {
        const row = source.subarray((from + r) * cols, (from + r + 1) * cols);
        floats.set(row, this.#at.rows + (this.#copied + r) * this.#stride);
      }
    }
    this.#copied += count;
  }

  /** Adds all rows and writes the sums into `into` from element `offset` on. */
  sumInto(into: Float32Array, offset: number): void {
    const { weights, sums, rows } = this.#at;
    const { floats } = this.#memory;
    const [cols, stride] = [this.#cols, this.#stride];
    kernel.run(this.#targeted, 4 * stride, 0, 4 * weights, 4 * rows);
    if (cols === stride) into.set(floats.subarray(sums, rows), offset);
    else {
      for (let s = 0; s < this.#sums; s++) {
        const from = sums + s * stride;
        into.set(floats.subarray(from, from + cols), offset + s * cols);
      }
    }
  }
}

function wholeVectors(floats: number): number {
  return 4 * Math.ceil(floats / 4);
}
