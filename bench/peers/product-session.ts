import { InferenceSession, Tensor } from 'onnxruntime-node';

/** Opens a graph x [n, H] -> y on `threads` threads; each call of the result runs it on `rows` rows. */
export async function openProduct(
  path: string,
  { rows, hidden, threads }: { readonly rows: number; readonly hidden: number; readonly threads: number },
): Promise<{ run(): Promise<unknown>; release(): Promise<void> }> {
  const session = await InferenceSession.create(path, { intraOpNumThreads: threads });
  const x = new Tensor('float32', new Float32Array(rows * hidden).fill(0.5), [rows, hidden]);
  return { run: () => session.run({ x }), release: () => session.release() };
}
