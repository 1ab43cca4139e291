import { type FileHandle, mkdir, open, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { type OnnxTensor, writeOnnx } from '../../src/model/onnx-write.js';
import { type ExpertsSpec, expertGraph } from '../support/experts.js';

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
        await writeCorner(file, m * stride, name === 'w2' ? hidden : inner, e * names.length + m);
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

/** The corner of a matrix with `cols` columns that begins at `offset`. */
async function writeCorner(file: FileHandle, offset: number, cols: number, seed: number): Promise<void> {
  for (let row = 0; row < CORNER; row++) {
    const values = Float32Array.from({ length: CORNER }, (_, col) => cornerValue(seed, row, col));
    await file.write(new Uint8Array(values.buffer), 0, values.byteLength, offset + 4 * row * cols);
  }
}

/** From -1 to 1; every matrix has others. */
function cornerValue(seed: number, row: number, col: number): number {
  return Math.sin(1 + 17 * seed + 5 * row + col);
}
