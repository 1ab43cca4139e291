import { readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { readOnnxFile } from '../../src/model/onnx.js';
import { TorchProcess } from '../peers/torch-process.js';
import type { ExpertSet } from '../support/experts.js';
import type { LayerContender, OpenOptions, Skipped } from './contenders.js';
import type { LayerCase } from './source.js';

/** PyTorch's loop over experts in a process of its own, which reads the files of the experts. */
export async function openTorch(options: OpenOptions): Promise<LayerContender | Skipped> {
  const { source, folder, lanes } = options;
  const set = source.set!;
  const places = await Promise.all(set.files.map(({ path }) => placesOf(path)));
  const torch = await TorchProcess.start(lanes);
  if (!(torch instanceof TorchProcess)) return { skipped: `no Python with PyTorch (${torch.missing})` };
  try {
    await open(torch, { set, places, options });
  } catch (error) {
    await torch[Symbol.asyncDispose]();
    throw error;
  }
  let current: LayerCase | undefined;
  const files = { x: join(folder, 'torch-x.bin'), y: join(folder, 'torch-y.bin') };
  const bytes = ({ buffer, byteOffset, byteLength }: Float32Array) =>
    new Uint8Array(buffer, byteOffset, byteLength);
  const forward = async (call: LayerCase) => {
    await writeFile(files.x, bytes(call.x.data));
    const ask = { kind: 'case', x: { path: files.x }, y: files.y, rows: call.tokens, bias: [...call.bias] };
    await torch.ask(ask);
    current = call;
    const y = await readFile(files.y);
    return new Float32Array(y.buffer, y.byteOffset, y.byteLength / 4);
  };
  return {
    name: 'torch',
    version: torch.version,
    forward,
    async timed(call, repeats) {
      if (current !== call) await forward(call);
      const { seconds } = await torch.ask<{ seconds: number }>({ kind: 'run', repeats });
      return (1000 * seconds) / repeats;
    },
    [Symbol.asyncDispose]: () => torch[Symbol.asyncDispose](),
  };
}

interface Place {
  readonly path: string;
  readonly offset: number;
}
type Places = Readonly<Record<string, Place>>;

/** Where the matrices of an expert lie. */
async function placesOf(path: string): Promise<Places> {
  const { initializers } = await readOnnxFile(path);
  return Object.fromEntries(
    initializers.map(({ name, external }) => {
      if (!external) throw new Error(`${path}: expected ${name} in a file of its own`);
      return [name, { path: join(dirname(path), external.location), offset: external.offset }];
    }),
  );
}

async function open(
  torch: TorchProcess,
  {
    set,
    places,
    options,
  }: { readonly set: ExpertSet; readonly places: readonly Places[]; readonly options: OpenOptions },
): Promise<void> {
  const { hidden, inner, activation, gate } = set;
  const { folder, lanes, source } = options;
  const path = join(folder, 'torch-gate.bin');
  await writeFile(path, new Uint8Array(gate.buffer, gate.byteOffset, gate.byteLength));
  const sizes = { hidden, inner, activation, k: source.shape.k, threads: lanes };
  await torch.ask({ kind: 'open', ...sizes, experts: places, gate: { path } });
}
