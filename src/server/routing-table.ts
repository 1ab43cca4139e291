import type { Routing } from '../router/routing.js';

/** Assignments of a sequence in all layers, as dense arrays [tokens, layers, k]. */
export interface RoutingTable {
  readonly shape: readonly [tokens: number, layers: number, k: number];
  readonly experts: Int32Array;
  readonly weights: Float32Array;
  readonly scores: Float32Array;
  readonly drops: Uint8Array;
}

/** Layers of a routing, each of the same tokens -> one table; k is that of the layer with most choices. */
export function routingTable(layers: readonly Routing[]): RoutingTable {
  const tokens = layers[0]?.tokens ?? 0;
  const k = layers.reduce((most, { choices }) => Math.max(most, choices), 0);
  const size = tokens * layers.length * k;
  const table: RoutingTable = {
    shape: [tokens, layers.length, k],
    experts: new Int32Array(size).fill(-1),
    weights: new Float32Array(size),
    scores: new Float32Array(size),
    drops: new Uint8Array(size),
  };
  for (const [l, routing] of layers.entries()) {
    for (let a = 0; a < routing.token.length; a++) {
      const at = (routing.token[a]! * layers.length + l) * k + routing.choice[a]!;
      table.experts[at] = routing.expert[a]!;
      table.weights[at] = routing.weight[a]!;
      table.scores[at] = routing.score[a]!;
      table.drops[at] = routing.reason[a]!;
    }
  }
  return table;
}

/** Little-endian numbers in base64. */
export function base64({ buffer, byteOffset, byteLength }: Int32Array | Float32Array | Uint8Array): string {
  return Buffer.from(buffer, byteOffset, byteLength).toString('base64');
}
