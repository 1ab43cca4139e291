import type { GenerateResult } from '../../model/generate.js';
import { base64, routingTable } from '../routing-table.js';
import type { Job } from './job.js';

/** The routing of one answer's own tokens, [tokens, layers, k] each, in base64 of little-endian numbers. */
export interface RoutedFields {
  /** [tokens, layers, k]: the prompt's tokens, then all generated ones but the last, which passes no layer. */
  readonly routed_experts_shape?: readonly [number, number, number];
  /** int32; -1 where a token had fewer choices. */
  readonly routed_experts?: string;
  /** float32; 0 where dropped. */
  readonly routing_weights?: string;
  /** uint8; 0 where kept, else why not (DROP_REASONS). */
  readonly routing_drops?: string;
}

/** What a job asks for of the routing of one answer. */
export function routedFields(
  { routing }: GenerateResult,
  { experts, weights, drops }: Job['routing'],
): RoutedFields {
  if (!experts && !weights && !drops) return {};
  const table = routingTable(routing);
  return {
    routed_experts_shape: table.shape,
    ...(experts && { routed_experts: base64(table.experts) }),
    ...(weights && { routing_weights: base64(table.weights) }),
    ...(drops && { routing_drops: base64(table.drops) }),
  };
}
