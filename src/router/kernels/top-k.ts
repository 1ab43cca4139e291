import type { Matrix } from '../../tensor.js';
import { Kernel } from './kernel.js';
import { copyRows, rowsPerBlock, strideOf } from './row-blocks.js';

/*
 * The k largest of each row, best first; of equal ones the first, or, where $higher is 1, the last. Rows are $width bytes.
 *
 * A row is read twice. First ceil(k / 4) * 4 lanes each find the largest of their share: the least of those is a bound that
 * at least k values reach, and few others. Then every value that reaches it is inserted among the best so far, and the
 * bound rises with the least of them. -infinity never gets in.
 */
const kernel = new Kernel(`
(func (param $count i32) (param $width i32) (param $k i32) (param $higher i32)
  (param $row i32) (param $values i32) (param $experts i32)
  (local $end i32) (local $at i32) (local $lanes i32) (local $found i32) (local $mask i32) (local $column i32)
  (local $place i32) (local $last i32) (local $value f32) (local $other f32) (local $best v128) (local $bound v128)
  (local.set $last (i32.shl (i32.sub (local.get $k) (i32.const 1)) (i32.const 2)))
  (block $done (loop $rows
    (br_if $done (i32.eqz (local.get $count)))
    (local.set $end (i32.add (local.get $row) (local.get $width)))

    (local.set $bound (f32x4.splat (f32.const inf)))
    (local.set $lanes (i32.const 0))
    (loop $share
      (local.set $best (f32x4.splat (f32.const -inf)))
      (local.set $at (i32.add (local.get $row) (local.get $lanes)))
      (block $read (loop $vector
        (br_if $read (i32.ge_u (local.get $at) (local.get $end)))
        (local.set $best (f32x4.pmax (local.get $best) (v128.load (local.get $at))))
        (local.set $at (i32.add (local.get $at)
          (i32.and (i32.add (local.get $last) (i32.const 16)) (i32.const -16))))
        (br $vector)))
      (local.set $bound (f32x4.pmin (local.get $bound) (local.get $best)))
      (local.set $lanes (i32.add (local.get $lanes) (i32.const 16)))
      (br_if $share (i32.le_u (local.get $lanes) (local.get $last))))
    (local.set $bound (f32x4.splat (f32.max (f32.const -3.4028234663852886e38) (f32.min
      (f32.min (f32x4.extract_lane 0 (local.get $bound)) (f32x4.extract_lane 1 (local.get $bound)))
      (f32.min (f32x4.extract_lane 2 (local.get $bound)) (f32x4.extract_lane 3 (local.get $bound)))))))

    (local.set $found (i32.const 0))
    (local.set $at (local.get $row))
    (block $taken (loop $vector
      (br_if $taken (i32.ge_u (local.get $at) (local.get $end)))
      (local.set $mask (i32x4.bitmask (f32x4.ge (v128.load (local.get $at)) (local.get $bound))))
      (block $next (loop $lane
        (br_if $next (i32.eqz (local.get $mask)))
        (local.set $column (i32.add (local.get $at) (i32.shl (i32.ctz (local.get $mask)) (i32.const 2))))
        (local.set $mask (i32.and (local.get $mask) (i32.sub (local.get $mask) (i32.const 1))))
        (local.set $value (f32.load (local.get $column)))
        (local.set $place (local.get $found))
        (if (i32.gt_u (local.get $found) (local.get $last)) (then
          (local.set $other (f32.load (i32.add (local.get $values) (local.get $last))))
          (br_if $lane (i32.or (f32.lt (local.get $value) (local.get $other))
            (i32.and (i32.eqz (local.get $higher)) (f32.eq (local.get $value) (local.get $other)))))
          (local.set $place (local.get $last))
          (local.set $found (local.get $last))))
        (local.set $found (i32.add (local.get $found) (i32.const 4)))
        (block $placed (loop $shift
          (br_if $placed (i32.eqz (local.get $place)))
          (local.set $other (f32.load (i32.add (local.get $values) (i32.sub (local.get $place) (i32.const 4)))))
          (br_if $placed (i32.eqz (i32.or (f32.lt (local.get $other) (local.get $value))
            (i32.and (local.get $higher) (f32.eq (local.get $other) (local.get $value))))))
          (f32.store (i32.add (local.get $values) (local.get $place)) (local.get $other))
          (i32.store (i32.add (local.get $experts) (local.get $place))
            (i32.load (i32.add (local.get $experts) (i32.sub (local.get $place) (i32.const 4)))))
          (local.set $place (i32.sub (local.get $place) (i32.const 4)))
          (br $shift)))
        (f32.store (i32.add (local.get $values) (local.get $place)) (local.get $value))
        (i32.store (i32.add (local.get $experts) (local.get $place))
          (i32.shr_u (i32.sub (local.get $column) (local.get $row)) (i32.const 2)))
        (if (i32.gt_u (local.get $found) (local.get $last)) (then
          (local.set $bound (f32x4.splat (f32.load (i32.add (local.get $values) (local.get $last)))))))
        (br $lane)))
      (local.set $at (i32.add (local.get $at) (i32.const 16)))
      (br $vector)))

    (block $filled (loop $rest
      (br_if $filled (i32.gt_u (local.get $found) (local.get $last)))
      (i32.store (i32.add (local.get $experts) (local.get $found)) (i32.const -1))
      (local.set $found (i32.add (local.get $found) (i32.const 4)))
      (br $rest)))
    (local.set $experts (i32.add (local.get $experts) (i32.add (local.get $last) (i32.const 4))))
    (local.set $row (local.get $end))
    (local.set $count (i32.sub (local.get $count) (i32.const 1)))
    (br $rows))))`);

/**
 * values [T,E] -> the columns of the k largest of each row [T * k], best first; -infinity is never taken, and -1 fills up.
 * Of equal values the lower column comes first, or the higher one. A row with NaN gives some of its columns.
 */
export function topColumns(values: Matrix, k: number, ties: 'lower' | 'higher' = 'lower'): Int32Array {
  const columns = new Int32Array(values.rows * k);
  const stride = strideOf(values.cols);
  const rows = Math.min(values.rows, rowsPerBlock(stride));
  const at = { values: rows * stride, columns: rows * stride + k };
  const { floats, ints } = kernel.memory(at.columns + rows * k);
  for (let start = 0; start < values.rows; start += rows) {
    const count = Math.min(rows, values.rows - start);
    copyRows(values, start, start + count, floats);
    kernel.run(count, 4 * stride, k, ties === 'higher' ? 1 : 0, 0, 4 * at.values, 4 * at.columns);
    columns.set(ints.subarray(at.columns, at.columns + count * k), start * k);
  }
  return columns;
}
