import type { Matrix } from '../../tensor.js';
import { Kernel } from './kernel.js';
import { copyRows, rowsPerBlock, strideOf } from './row-blocks.js';

/* For each row of $width bytes: 1 where a value is NaN or infinity or all are -infinity, else 0. */
const kernel = new Kernel(`
(func (param $count i32) (param $width i32) (param $at i32) (param $flags i32)
  (local $end i32) (local $valid v128) (local $allowed v128) (local $values v128)
  (block $done (loop $row
    (br_if $done (i32.eqz (local.get $count)))
    (local.set $end (i32.add (local.get $at) (local.get $width)))
    (local.set $valid (f32x4.eq (f32x4.splat (f32.const 0)) (f32x4.splat (f32.const 0))))
    (local.set $allowed (f32x4.splat (f32.const 0)))
    (loop $vector
      (local.set $values (v128.load (local.get $at)))
      (local.set $valid (v128.and (local.get $valid) (f32x4.lt (local.get $values) (f32x4.splat (f32.const inf)))))
      (local.set $allowed (v128.or (local.get $allowed) (f32x4.gt (local.get $values) (f32x4.splat (f32.const -inf)))))
      (local.set $at (i32.add (local.get $at) (i32.const 16)))
      (br_if $vector (i32.lt_u (local.get $at) (local.get $end))))
    (i32.store (local.get $flags) (i32.eqz (i32.and
      (i32x4.all_true (local.get $valid)) (v128.any_true (local.get $allowed)))))
    (local.set $flags (i32.add (local.get $flags) (i32.const 4)))
    (local.set $count (i32.sub (local.get $count) (i32.const 1)))
    (br $row))))`);

/** logits [T,E] -> the rows that cannot be routed, ascending: NaN or infinity in them, or nothing but -infinity. */
export function unroutableRows(logits: Matrix): number[] {
  const found: number[] = [];
  const stride = strideOf(logits.cols);
  const rows = Math.min(logits.rows, rowsPerBlock(stride));
  const flags = rows * stride;
  const { floats, ints } = kernel.memory(flags + rows);
  for (let start = 0; start < logits.rows; start += rows) {
    const count = Math.min(rows, logits.rows - start);
    copyRows(logits, start, start + count, floats);
    kernel.run(count, 4 * stride, 0, 4 * flags);
    for (let r = 0; r < count; r++) if (ints[flags + r] !== 0) found.push(start + r);
  }
  return found;
}
