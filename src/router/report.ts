import { type Imbalance, imbalanceOf, type Load, loadOf } from './load.js';
import { type LossContext, type Losses, lossesOf } from './losses.js';
import type { Routing } from './routing.js';

/** What a routing comes to, as plain data. */
export interface RoutingReport extends Load {
  readonly losses: Losses;
  /** Of the load before drops. */
  readonly imbalance: Imbalance;
}

export function reportRouting(routing: Routing, context: LossContext = {}): RoutingReport {
  const load = loadOf(routing);
  return { ...load, losses: lossesOf(routing, context), imbalance: imbalanceOf(load.load) };
}
