import { type FileHandle, mkdir, open, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { type OnnxTensor, writeOnnx } from '../../src/model/onnx-write.js';
import { type ExpertsSpec, expertGraph } from '../support/experts.js';
import { type FusedFiles, writeFusedGraph } from './fused.js';

const PAGE = 4096;
/** Rows and columns of each matrix, from the first ones on, that are not zero. */
const CORNER = 4;

/**
 * Float32 experts too large for the disk: each has a file of its full length for itself, a sparse one, whose matrices
 * hold numbers of the expert's own in a corner and holes beside it, which read as zeros. What is opened and mapped is
 * as much as ever. Returns the paths.
 */
export async function writeSparseExperts(folder: string, spec: ExpertsSpec): Promise<string[]> {
  await mkdir(folder, { recursive: true });
  const { hidden, inner, activation } = spec;
  const names = activation === 'relu' ? ['w1', 'w2'] : ['w1', 'w3', 'w2'];
  const length = 4 * hidden * inner;
  const stride = Math.ceil(length / PAGE) * PAGE;
  const zeros = new Float32Array(hidden * inner);
  const graph = expertGraph(spec, { w1: zeros, w2: zeros, ...(activation === 'swiglu' && { w3: zeros }) });
  const paths: string[] = [];
  for (let e = 0; e < spec.experts; e++) {
    const path = join(folder, `expert-${String(e).padStart(4, '0')}.onnx`);
    const data = path.replace(/onnx$/, 'bin');
    const file = await open(data, 'w');
    try {
      await file.truncate(names.length * stride);
      for (const [m, name] of names.entries())
        await writeCorner(file, {
          offset: m * stride,
          cols: name === 'w2' ? hidden : inner,
          seed: e * names.length + m,
        });
    } finally {
      await file.close();
    }
    const location = basename(data);
    const initializers = names.map((name, m): OnnxTensor => {
      const dims = name === 'w2' ? [inner, hidden] : [hidden, inner];
      return { name, dims, type: 'float32', external: { location, offset: m * stride, length } };
    });
    await writeFile(path, writeOnnx({ ...graph, initializers }));
    paths.push(path);
  }
  return paths;
}

/**
 * The same weights as the fused operator has them, in one sparse file: fc1 [E, F, H] (swiglu: [E, 2F, H], the row of W1
 * before that of W3) and fc2 [E, H, F].
 */
export async function writeSparseFused(folder: string, spec: ExpertsSpec): Promise<FusedFiles> {
  const { experts, hidden, inner, activation } = spec;
  const [location, ups] = ['fused-0.bin', activation === 'relu' ? 1 : 2];
  const [length1, length2] = [4 * experts * ups * inner * hidden, 4 * experts * hidden * inner];
  const begin2 = Math.ceil(length1 / PAGE) * PAGE;
  const file = await open(join(folder, location), 'w');
  try {
    await file.truncate(begin2 + length2);
    for (let e = 0; e < experts; e++) {
      const first = e * (ups + 1);
      for (let m = 0; m < ups; m++) {
        const offset = 4 * hidden * (e * ups * inner + m);
        await writeCorner(file, { offset, cols: ups * hidden, seed: first + m, turned: true });
      }
      const offset = begin2 + 4 * e * hidden * inner;
      await writeCorner(file, { offset, cols: inner, seed: first + ups, turned: true });
    }
  } finally {
    await file.close();
  }
  const tensor = (name: string, dims: readonly number[], offset: number, length: number): OnnxTensor => {
    return { name, dims, type: 'float32', external: { location, offset, length } };
  };
  const weights = [
    tensor('fc1', [experts, ups * inner, hidden], 0, length1),
    tensor('fc2', [experts, hidden, inner], begin2, length2),
  ];
  const path = await writeFusedGraph(join(folder, 'fused-0.onnx'), spec, weights);
  return { files: [path], experts, layerExperts: experts };
}

interface Corner {
  /** Where the matrix begins, in bytes. */
  readonly offset: number;
  /** From one row to the next. */
  readonly cols: number;
  readonly seed: number;
  /** Whether rows and columns have changed places. */
  readonly turned?: boolean;
}

async function writeCorner(file: FileHandle, { offset, cols, seed, turned }: Corner): Promise<void> {
  for (let row = 0; row < CORNER; row++) {
    const values = Float32Array.from({ length: CORNER }, (_, col) =>
      turned ? cornerValue(seed, col, row) : cornerValue(seed, row, col),
    );
    await file.write(new Uint8Array(values.buffer), 0, values.byteLength, offset + 4 * row * cols);
  }
}

/** From -1 to 1; every matrix has others. */
function cornerValue(seed: number, row: number, col: number): number {
  return Math.sin(1 + 17 * seed + 5 * row + col);
}
