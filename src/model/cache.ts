import type { PagedStateEntry } from './manifest.js';

/** Added to the score of a position that must not be seen; finite, because 0 x -infinity is NaN. */
const HIDDEN = -1e9;

/**
 * Hands out cache blocks of `block` positions. A sequence owns the same block numbers in every layer, so one table
 * serves all pools. The lowest free number goes first: the pools are read up to the highest block in use.
 */
export class BlockTable {
  #used: boolean[] = [];
  #count = 0;

  constructor(
    readonly block: number,
    /** The most blocks that may ever be in use. */
    readonly limit: number,
  ) {}

  /** Blocks 0 .. high - 1 hold everything that is in use. */
  get high(): number {
    return this.#used.length;
  }

  /** Blocks in use. */
  get used(): number {
    return this.#count;
  }

  /** Blocks that `positions` positions need. */
  blocksFor(positions: number): number {
    return Math.ceil(positions / this.block);
  }

  take(): number {
    const gap = this.#used.indexOf(false);
    const id = gap < 0 ? this.#used.length : gap;
    if (id >= this.limit) throw new RangeError(`all ${this.limit} cache blocks are in use`);
    this.#used[id] = true;
    this.#count++;
    return id;
  }

  release(ids: readonly number[]): void {
    for (const id of ids) this.#used[id] = false;
    this.#count -= ids.length;
    while (this.#used.length > 0 && !this.#used[this.#used.length - 1]) this.#used.pop();
  }
}

/** The keys and values of one attention layer: K and V [blocks, heads, block, size], grown by doubling. */
export class BlockPool {
  k = new Float32Array(0);
  v = new Float32Array(0);
  readonly #stride: number;

  constructor(readonly shape: PagedStateEntry) {
    this.#stride = shape.heads * shape.block * shape.size;
  }

  /** K and V of blocks 0 .. count - 1, as views. */
  view(count: number): { k: Float32Array; v: Float32Array } {
    this.#grow(count);
    const end = count * this.#stride;
    return { k: this.k.subarray(0, end), v: this.v.subarray(0, end) };
  }

  /** Row `row` of `kNew`, `vNew` [N, heads * size] becomes position `offset` of block `id`. */
  write(id: number, offset: number, kNew: Float32Array, vNew: Float32Array, row: number): void {
    this.#grow(id + 1);
    const { k, v } = this;
    const { heads, size, block } = this.shape;
    for (let head = 0; head < heads; head++) {
      const from = (row * heads + head) * size;
      const to = ((id * heads + head) * block + offset) * size;
      // Some numbers only: two views and a call of `set` would take longer.
      for (let i = 0; i < size; i++) {
        k[to + i] = kNew[from + i]!;
        v[to + i] = vNew[from + i]!;
      }
    }
  }

  /** Zeros the blocks of an ended sequence: nothing of it is left for the next owner, and a NaN cannot spread through the mask. */
  clear(ids: readonly number[]): void {
    for (const id of ids) {
      this.k.fill(0, id * this.#stride, (id + 1) * this.#stride);
      this.v.fill(0, id * this.#stride, (id + 1) * this.#stride);
    }
  }

  #grow(count: number): void {
    if (count * this.#stride <= this.k.length) return;
    const length = Math.max(count * this.#stride, this.k.length * 2);
    const k = new Float32Array(length);
    const v = new Float32Array(length);
    k.set(this.k);
    v.set(this.v);
    this.k = k;
    this.v = v;
  }
}

/** What the attention of a step may see: the cached positions of each sequence, decode rows first, then one prompt chunk. */
export interface PagedView {
  /** Rows 0 .. decodeRows - 1 are one new token of a sequence each; the others are a chunk of one sequence. */
  readonly decodeRows: number;
  /** [blocks] row that owns each block; 0 where none does (its mask hides it). */
  readonly owner: BigInt64Array;
  /** [blocks, 1, 1, block] 0 or HIDDEN */
  readonly mask: Float32Array;
  /** [blocks of the chunk's sequence before this step] */
  readonly chunkBlocks: BigInt64Array;
  /** [1, 1, 1, chunkBlocks * block] */
  readonly chunkMask: Float32Array;
  /** [1, 1, chunk, chunk] */
  readonly chunkCausal: Float32Array;
}

/** The blocks of a sequence and how many of their positions are filled. */
export interface Cached {
  readonly blocks: readonly number[];
  readonly cached: number;
}

/** Builds the view of one step from the sequences that decode (a row each) and the one that brings a chunk. */
export function pagedView(
  table: BlockTable,
  decoding: readonly Cached[],
  chunk?: Cached & { length: number },
): PagedView {
  const { block } = table;
  const blocks = decoding.length > 0 ? table.high : 0;
  const owner = new BigInt64Array(blocks);
  const mask = new Float32Array(blocks * block).fill(HIDDEN);
  decoding.forEach((sequence, row) => {
    for (let b = 0; b * block < sequence.cached; b++) {
      const id = sequence.blocks[b]!;
      owner[id] = BigInt(row);
      mask.fill(0, id * block, id * block + Math.min(block, sequence.cached - b * block));
    }
  });
  const past = chunk ? chunk.blocks.slice(0, table.blocksFor(chunk.cached)) : [];
  const chunkMask = new Float32Array(past.length * block).fill(HIDDEN);
  chunkMask.fill(0, 0, chunk?.cached ?? 0);
  const length = chunk?.length ?? 0;
  const chunkCausal = new Float32Array(length * length);
  for (let r = 0; r < length; r++) chunkCausal.fill(HIDDEN, r * length + r + 1, (r + 1) * length);
  return {
    decodeRows: decoding.length,
    owner,
    mask,
    chunkBlocks: BigInt64Array.from(past, BigInt),
    chunkMask,
    chunkCausal,
  };
}
