import type { Matrix } from '../tensor.js';

/** The score of each choice [T * K] from scores [T, E]; 0 where there is none. */
export function pickScores({ data, cols }: Matrix, expert: Int32Array, choices: number): Float32Array {
  const picked = new Float32Array(expert.length);
  for (let a = 0, base = 0; a < expert.length; base += cols) {
    for (const end = a + choices; a < end; a++) if (expert[a] >= 0) picked[a] = data[base + expert[a]];
  }
  return picked;
}
