import { TurnoutError } from '../errors.js';
import type { PlainTensor } from '../experts/session.js';
import type { BlockPool, BlockTable, PagedView } from './cache.js';
import type { ReplaceStateEntry } from './manifest.js';
import type { Span, StepBatch } from './program.js';

/** What the paged attention of a step takes of one pool. */
export function pagedFeeds(
  pool: BlockPool,
  { table, view }: { readonly table: BlockTable; readonly view: PagedView },
): Record<string, PlainTensor> {
  const { heads, block, size } = pool.shape;
  const past = view.chunkBlocks.length;
  const chunk = Math.sqrt(view.chunkCausal.length);
  const decodeBlocks = view.owner.length;
  const chunkPool = past > 0 ? table.high : 0;
  const decode = pool.view(decodeBlocks);
  const prompt = pool.view(chunkPool);
  return {
    k_pool: float32(decode.k, [decodeBlocks, heads, block, size]),
    v_pool: float32(decode.v, [decodeBlocks, heads, block, size]),
    owner: int64(view.owner, [decodeBlocks]),
    mask: float32(view.mask, [decodeBlocks, 1, 1, block]),
    decode_rows: int64(BigInt64Array.of(BigInt(view.decodeRows)), [1]),
    chunk_k_pool: float32(prompt.k, [chunkPool, heads, block, size]),
    chunk_v_pool: float32(prompt.v, [chunkPool, heads, block, size]),
    chunk_blocks: int64(view.chunkBlocks, [past]),
    chunk_past: int64(BigInt64Array.of(BigInt(past * block)), [1]),
    chunk_mask: float32(view.chunkMask, [1, 1, 1, past * block]),
    chunk_causal: float32(view.chunkCausal, [1, 1, chunk, chunk]),
  };
}

/** Puts the new key and value rows behind the cached positions of their sequences. */
export function appendRows(
  pool: BlockPool,
  { spans, table }: StepBatch,
  results: Record<string, PlainTensor>,
): void {
  const k = results.k_new!.data as Float32Array;
  const v = results.v_new!.data as Float32Array;
  for (const { sequence, start, length } of spans) {
    for (let i = 0; i < length; i++) {
      const position = sequence.cached + i;
      const id = sequence.blocks[Math.floor(position / table.block)]!;
      pool.write(id, position % table.block, k, v, start + i);
    }
  }
}

/** The rows of one span: of axis 0, or of axis 1 for positions [1, N]. */
export function sliceRows(
  value: PlainTensor,
  { start, length }: Pick<Span, 'start' | 'length'>,
): PlainTensor {
  const [first, ...rest] = value.dims.map(Number);
  const byColumn = value.type === 'int64' && first === 1 && rest.length === 1;
  const stride = byColumn ? 1 : rest.reduce((product, dim) => product * dim, 1);
  const data = (value.data as Float32Array).subarray(start * stride, (start + length) * stride);
  return { type: value.type, dims: byColumn ? [1, length] : [length, ...rest], data } as PlainTensor;
}

/** The rows of several tensors after each other. */
export function joinRows(parts: readonly PlainTensor[]): PlainTensor {
  const [first] = parts;
  if (first?.type !== 'float32') {
    throw new TurnoutError(
      'TURNOUT_PACKAGE_SHAPE_MISMATCH',
      `a sequence step must give float32 rows, got ${first?.type}`,
    );
  }
  const data = new Float32Array(parts.reduce((sum, part) => sum + part.data.length, 0));
  let at = 0;
  for (const part of parts) {
    data.set(part.data as Float32Array, at);
    at += part.data.length;
  }
  const rows = parts.reduce((sum, part) => sum + Number(part.dims[0]), 0);
  return float32(data, [rows, ...first.dims.slice(1).map(Number)]);
}

/** What a replaced state holds before the first token. */
export function initialState(state: ReplaceStateEntry): PlainTensor {
  return float32(new Float32Array(state.initial.reduce((product, dim) => product * dim, 1)), state.initial);
}

function float32(data: Float32Array, dims: readonly number[]): PlainTensor {
  return { type: 'float32', dims, data };
}

export function int64(data: BigInt64Array, dims: readonly number[]): PlainTensor {
  return { type: 'int64', dims, data };
}
