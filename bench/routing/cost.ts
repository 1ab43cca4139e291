import type { LayerEntry, Manifest } from '../../src/model/manifest.js';
import { type OnnxSummary, readOnnxFile } from '../../src/model/onnx.js';
import { expertPaths } from '../../src/model/open.js';
import type { Package } from '../../src/model/package.js';
import type { Routing } from '../../src/router/routing.js';
import type { Activation } from './names.js';

/** What one expert of a layer costs. */
export interface LayerCost {
  /** Multiplications and additions of one row: 2 for each weight of its matrices. */
  readonly flopsPerRow: number;
  /** Bytes of its weights, read once in a call that gives it any row. */
  readonly weightBytes: number;
  /** Bytes of one row, float32: it comes in and goes out. */
  readonly rowBytes: number;
}

/** H hidden, F inner size. */
export interface ExpertSize {
  readonly hidden: number;
  readonly inner: number;
  readonly activation: Activation;
}

/**
 * From sizes alone, float32: `plain` experts (relu, gelu) have two matrices, 2 * 2HF operations a row; `gated` ones
 * (SwiGLU, GEGLU) three, 3 * 2HF. Activations and biases are left out: below 1 % for H, F of 128 and more.
 */
export function costOfSize({ hidden, inner, activation }: ExpertSize): LayerCost {
  const weights = (activation === 'gated' ? 3 : 2) * hidden * inner;
  return { flopsPerRow: 2 * weights, weightBytes: 4 * weights, rowBytes: 4 * hidden };
}

/** [L] of a package. The manifest has H and F; the first expert file of each layer tells the kind and its bytes. */
export async function costsOf(pkg: Package): Promise<LayerCost[]> {
  return Promise.all(pkg.manifest.layers.map((layer) => costOfLayer(pkg, layer)));
}

async function costOfLayer(pkg: Package, layer: LayerEntry): Promise<LayerCost> {
  const graph = await readOnnxFile(expertPaths(pkg, layer)[0]!);
  const { hidden, inner } = pkg.manifest.sizes;
  const cost = costOfSize({ hidden, inner, activation: activationOf(graph, pkg.manifest) });
  return { ...cost, weightBytes: graph.initializers.reduce((sum, { bytes }) => sum + bytes, 0) };
}

/** Gated where the file stores a third matrix of H x F. Packed weights (int4) do not show their shape: then gated, as all such models are. */
function activationOf({ initializers }: OnnxSummary, { sizes: { hidden, inner } }: Manifest): Activation {
  const matrices = initializers.filter(
    ({ dims, dtype }) =>
      dtype.includes('float') && dims.length === 2 && dims[0]! * dims[1]! >= hidden * inner,
  );
  // One matrix may hold two side by side.
  const weights = matrices.reduce((sum, { dims }) => sum + dims[0]! * dims[1]!, 0);
  return weights === 2 * hidden * inner ? 'plain' : 'gated';
}

/** Expert rows, operations and bytes of one call of one layer. Experts from `computed` on cost nothing. */
export function costOfRouting(routing: Routing, computed: number, cost: LayerCost) {
  const rows = new Array<number>(computed).fill(0);
  for (let a = 0; a < routing.expert.length; a++) {
    const expert = routing.expert[a]!;
    if (routing.reason[a] === 0 && expert < computed) rows[expert]!++;
  }
  const all = rows.reduce((sum, count) => sum + count, 0);
  const touched = rows.filter((count) => count > 0).length;
  return {
    flops: all * cost.flopsPerRow,
    bytes: touched * cost.weightBytes + 2 * all * cost.rowBytes,
  };
}
