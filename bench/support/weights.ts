/** What experts compute, and how their weights are stored. */
export interface ExpertsSpec {
  /** E */
  readonly experts: number;
  /** H; a multiple of the group for int4. */
  readonly hidden: number;
  /** F; a multiple of the group for int4. */
  readonly inner: number;
  /** relu(x W1) W2, or (silu(x W1) * x W3) W2. */
  readonly activation: 'relu' | 'swiglu';
  /** float32 where left out. */
  readonly dtype?: 'float32' | 'int4';
  /** Values of int4 matrices that share a scale, along the inputs: 32 where left out. */
  readonly group?: number;
  readonly seed?: number;
}

/** What MatMulNBits and QMoE both take; published int4 weights mostly have 128 (GPTQ, AWQ) or 32. */
export const GROUPS = [32, 64, 128] as const;
export const [LEAST_GROUP] = GROUPS;
/** The code that stands for zero. */
export const ZERO_CODE = 8;

/**
 * A matrix of `inputs` by `outputs` in 4 bits: value = scale * (code - 8). Codes lie as [outputs, inputs / 2] with the
 * even input in the low half of a byte, scales as [outputs, inputs / group]: the layout of both com.microsoft.MatMulNBits
 * and QMoE.
 */
export interface Int4Matrix {
  readonly group: number;
  readonly inputs: number;
  readonly outputs: number;
  readonly codes: Uint8Array;
  readonly scales: Float32Array;
}

/** w1, w3 [H, F] and w2 [F, H], row-major for float32; w3 only for swiglu. */
export interface ExpertWeights {
  readonly w1: Float32Array | Int4Matrix;
  readonly w2: Float32Array | Int4Matrix;
  readonly w3?: Float32Array | Int4Matrix;
}

/** Bytes of the weights of one expert. */
export function expertBytes({
  hidden,
  inner,
  activation,
  dtype,
  group = LEAST_GROUP,
}: Omit<ExpertsSpec, 'experts'>): number {
  const values = (activation === 'swiglu' ? 3 : 2) * hidden * inner;
  return dtype === 'int4' ? values / 2 + (4 * values) / group : 4 * values;
}

/** Random numbers on a tape are fewer than this: more cost time and tell nothing else. A prime, so that experts differ. */
const TAPE = 1_048_583;

/**
 * The weights of expert e, the same for the same spec. Large sets need not be in memory: each expert is read off a tape
 * of random numbers that ends in its beginning, from a place of its own.
 */
export function weightsOf(spec: ExpertsSpec): (e: number) => ExpertWeights {
  const { experts, hidden, inner, activation, dtype = 'float32', group = LEAST_GROUP, seed = 1 } = spec;
  const matrices = activation === 'swiglu' ? 3 : 2;
  const size = hidden * inner;
  const length = Math.min(TAPE, experts * matrices * size);
  const draw = dtype === 'int4' ? int4Drawer(length, seed, group) : float32Drawer(length, seed);
  return (e) => {
    const at = (matrix: number) => (e * matrices + matrix) * size;
    return {
      w1: draw(at(0), hidden, inner),
      w2: draw(at(1), inner, hidden),
      ...(activation === 'swiglu' ? { w3: draw(at(2), hidden, inner) } : {}),
    };
  };
}

/** Square matrices, by their number: those of neighbouring numbers have no value in common in one place. */
export function squares(
  { dtype, group = LEAST_GROUP }: Pick<ExpertsSpec, 'dtype' | 'group'>,
  side: number,
): (index: number) => ExpertWeights['w1'] {
  const length = Math.min(TAPE, side * side);
  const draw = dtype === 'int4' ? int4Drawer(length, 1, group) : float32Drawer(length, 1);
  return (index) => draw(index * side * side, side, side);
}

type Drawer = (at: number, inputs: number, outputs: number) => Float32Array | Int4Matrix;

/** Normal numbers divided by the square root of the inputs. */
function float32Drawer(length: number, seed: number): Drawer {
  const tape = Float32Array.from({ length }, normals(seed));
  return (at, inputs, outputs) => {
    const matrix = read(tape, at, new Float32Array(inputs * outputs));
    const scale = 1 / Math.sqrt(inputs);
    for (let i = 0; i < matrix.length; i++) matrix[i]! *= scale;
    return matrix;
  };
}

/** Standard deviation of whole numbers from -8 to 7, all as likely. */
const CODE_DEVIATION = 4.6;

/**
 * Codes of which each group has one for -8: QMoE quantises the weights again when it packs them, with the scale of the
 * largest value, and so finds the same codes and scales.
 */
function int4Drawer(length: number, seed: number, group: number): Drawer {
  const uniform = uniforms(seed);
  const codeTape = Uint8Array.from({ length }, () => uniform() * 256);
  const scaleTape = Float32Array.from({ length }, () => 0.75 + uniform() / 2);
  return (at, inputs, outputs) => {
    const codes = read(codeTape, at, new Uint8Array((inputs * outputs) / 2));
    const scales = read(scaleTape, at, new Float32Array((inputs * outputs) / group));
    for (let g = 0; g < scales.length; g++) {
      scales[g]! /= CODE_DEVIATION * Math.sqrt(inputs);
      codes[(g * group) / 2 + (g % (group / 2))]! &= 0xf0;
    }
    return { group, inputs, outputs, codes, scales };
  };
}

function read<A extends Float32Array | Uint8Array>(tape: A, from: number, into: A): A {
  for (let done = 0; done < into.length; ) {
    const at = (from + done) % tape.length;
    const part = tape.subarray(at, at + into.length - done);
    into.set(part, done);
    done += part.length;
  }
  return into;
}

/** The values of a matrix, [inputs, outputs] row-major. */
export function valuesOf(matrix: Float32Array | Int4Matrix): Float32Array {
  if (matrix instanceof Float32Array) return matrix;
  const { group, inputs, outputs, codes, scales } = matrix;
  const values = new Float32Array(inputs * outputs);
  for (let o = 0; o < outputs; o++) {
    for (let i = 0; i < inputs; i++) {
      const place = o * inputs + i;
      const code = (codes[place >> 1]! >> (4 * (place & 1))) & 0xf;
      values[i * outputs + o] = scales[Math.floor(place / group)]! * (code - ZERO_CODE);
    }
  }
  return values;
}

/** Numbers from 0 to below 1, the same for the same seed. */
export function uniforms(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Standard normal numbers, the same for the same seed. */
export function normals(seed: number): () => number {
  const uniform = uniforms(seed);
  return () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
}
