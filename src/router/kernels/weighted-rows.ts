import { memoryOf, ROOM_BYTES } from '../../shared-memory.js';
import { Kernel, type Workplace } from './kernel.js';

/** Adds up some vectors at a time, as long as so many are left of a row. */
const columns = (vectors: number) => {
  const each = (text: (i: number, offset: string) => string) =>
    Array.from({ length: vectors }, (_, i) => text(i, `(i32.const ${16 * i})`)).join('\n');
  return `
    (block $left (loop $columns
      (br_if $left (i32.gt_u (i32.add (local.get $column) (i32.const ${16 * vectors})) (local.get $width)))
      ${each((i) => `(local.set $sum${i} (f32x4.splat (f32.const 0)))`)}
      (local.set $row (local.get $first))
      (block $summed (loop $rows
        (br_if $summed (i32.eq (local.get $row) (local.get $end)))
        (local.set $at (i32.add (i32.load (local.get $row)) (local.get $column)))
        (local.set $weight (f32x4.splat (f32.load (i32.add (local.get $row) (i32.const 4)))))
        ${each(
          (i, offset) => `(local.set $sum${i} (f32x4.add (local.get $sum${i})
            (f32x4.mul (local.get $weight) (v128.load (i32.add (local.get $at) ${offset})))))`,
        )}
        (local.set $row (i32.add (local.get $row) (i32.const 8)))
        (br $rows)))
      (local.set $at (i32.add (local.get $sums) (local.get $column)))
      ${each((i, offset) => `(v128.store (i32.add (local.get $at) ${offset}) (local.get $sum${i}))`)}
      (local.set $column (i32.add (local.get $column) (i32.const ${16 * vectors})))
      (br $columns)))`;
};

/*
 * For each of $count sums, one behind the other from $sums on: the rows whose addresses and weights stand in pairs from
 * $first on, as many as $counts says, each times its weight, added in this order. A row is $width bytes, a multiple of
 * 16. Products and sums are float32.
 */
const kernel = new Kernel(`
(func (param $count i32) (param $width i32) (param $counts i32) (param $first i32) (param $sums i32)
  (local $end i32) (local $row i32) (local $at i32) (local $column i32) (local $weight v128)
  (local $sum0 v128) (local $sum1 v128) (local $sum2 v128) (local $sum3 v128)
  (block $done (loop $sum
    (br_if $done (i32.eqz (local.get $count)))
    (local.set $end (i32.add (local.get $first) (i32.shl (i32.load (local.get $counts)) (i32.const 3))))
    (local.set $column (i32.const 0))
    ${columns(4)}
    ${columns(1)}
    (local.set $first (local.get $end))
    (local.set $counts (i32.add (local.get $counts) (i32.const 4)))
    (local.set $sums (i32.add (local.get $sums) (local.get $width)))
    (local.set $count (i32.sub (local.get $count) (i32.const 1)))
    (br $sum))))`);

/** Floats of copied rows and their sums that should be in memory at a time: what the second level of a cache holds. */
const BLOCK = 512 * 1024;
/** Elements of a line of a cache: sums begin at one. */
const LINE = 16;

/**
 * Weighted sums of rows [n, cols], some at a time: rows are read where they lie if all of them are in one memory that
 * `shareMemory` made, else copied. Only one of these may be in use at a time.
 */
export class WeightedRows {
  readonly #cols: number;
  /** Floats from one row to the next: whole vectors. */
  readonly #stride: number;
  /** How many of the rows each sum has. */
  readonly #counts: Int32Array;
  readonly #inPlace: Workplace | undefined;
  /** How many sums may be made at a time. */
  readonly sumsAtATime: number;
  #place: Workplace;
  /** Where, in elements, the counts, the pairs, the sums and copied rows begin. */
  #at = { counts: 0, pairs: 0, sums: 0, rows: 0 };
  /** For each sum under way where its next row goes among the pairs. */
  #next = new Int32Array(0);
  #copied = 0;

  /** `counts` says for every sum that will be made how many rows of `sources` it has. */
  constructor(sources: readonly Float32Array[], cols: number, counts: Int32Array) {
    this.#cols = cols;
    this.#stride = 4 * Math.ceil(cols / 4);
    this.#counts = counts;
    const most = counts.reduce((least, count) => Math.max(least, count), 0);
    const inRoom = Math.floor((ROOM_BYTES / 4 - LINE) / (this.#stride + 2 * most + 1));
    this.#inPlace = cols === this.#stride && inRoom > 0 ? placeOf(sources) : undefined;
    this.#place = this.#inPlace ?? kernel.memory(0);
    const rows = counts.reduce((sum, count) => sum + count, 0) / counts.length;
    const inBlock = Math.floor(BLOCK / (this.#stride * (rows + 1)));
    this.sumsAtATime = this.#inPlace ? inRoom : Math.max(1, inBlock);
  }

  /** Begins the sums `start` to `end`. */
  begin(start: number, end: number): void {
    const counts = this.#counts.subarray(start, end);
    const rows = counts.reduce((sum, count) => sum + count, 0);
    const from = this.#inPlace ? this.#inPlace.floats.length - ROOM_BYTES / 4 : 0;
    const pairs = from + counts.length;
    const sums = LINE * Math.ceil((pairs + 2 * rows) / LINE);
    this.#at = { counts: from, pairs, sums, rows: sums + counts.length * this.#stride };
    this.#place = this.#inPlace ?? kernel.memory(this.#at.rows + rows * this.#stride);
    this.#place.ints.set(counts, from);
    this.#next = new Int32Array(counts.length);
    for (let s = 0, next = pairs; s < counts.length; s++) {
      this.#next[s] = next;
      next += 2 * counts[s]!;
    }
    this.#copied = 0;
  }

  /** `count` rows of `source` [n, cols] from row `from` on: the address of the first; the others follow by `bytesPerRow`. */
  rows(source: Float32Array, from: number, count: number): number {
    const [cols, stride] = [this.#cols, this.#stride];
    if (this.#inPlace) return source.byteOffset + 4 * from * cols;
    const { floats } = this.#place;
    const to = this.#at.rows + this.#copied * stride;
    this.#copied += count;
    if (cols === stride) {
      const whole = source.length === count * cols;
      floats.set(whole ? source : source.subarray(from * cols, (from + count) * cols), to);
    } else {
      for (let r = 0; r < count; r++) {
        const row = source.subarray((from + r) * cols, (from + r + 1) * cols);
        floats.set(row, to + r * stride);
      }
    }
    return 4 * to;
  }

  get bytesPerRow(): number {
    return 4 * this.#stride;
  }

  /** The row at this address, times `weight`, is the next one of a sum, which is counted from the first one under way. */
  add(sum: number, address: number, weight: number): void {
    const at = this.#next[sum]!;
    this.#place.ints[at] = address;
    this.#place.floats[at + 1] = weight;
    this.#next[sum] = at + 2;
  }

  /** Writes the sums under way into `into` from element `offset` on. */
  sumInto(into: Float32Array, offset: number): void {
    const { counts, pairs, sums } = this.#at;
    const { floats, run } = this.#place;
    const [count, cols, stride] = [this.#next.length, this.#cols, this.#stride];
    run(count, 4 * stride, 4 * counts, 4 * pairs, 4 * sums);
    if (cols === stride) {
      into.set(floats.subarray(sums, sums + count * cols), offset);
      return;
    }
    for (let s = 0; s < count; s++) {
      const from = sums + s * stride;
      into.set(floats.subarray(from, from + cols), offset + s * cols);
    }
  }
}

/** Where the kernel can read all of them; undefined where it needs copies. */
function placeOf(sources: readonly Float32Array[]): Workplace | undefined {
  const buffer = sources.find(({ length }) => length > 0)?.buffer;
  if (!buffer || sources.some((source) => source.length > 0 && source.buffer !== buffer)) return undefined;
  const memory = memoryOf(buffer);
  return memory && kernel.within(memory);
}
