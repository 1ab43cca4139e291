import type { LaneStats } from '../experts/backend.js';
import type { LoadHistory } from '../router/load-history.js';
import { LoadSums, type WindowLoad } from '../router/load-sums.js';
import type { EngineStats } from './engine.js';
import type { MoeModel } from './moe-model.js';

/** The windows over which loads are told, in milliseconds: the first is "now". */
export const WINDOWS = { '1s': 1000, '10s': 10_000, '60s': 60_000, '300s': 300_000 } as const;
export type WindowName = keyof typeof WINDOWS;

/** One MoE layer as observers see it: since the begin, and over windows. */
export interface LayerSnapshot {
  readonly layer: number;
  readonly name: string;
  readonly experts: number;
  readonly choices: number;
  readonly total: WindowLoad;
  readonly windows: Readonly<Record<WindowName, WindowLoad>>;
}

/** What an engine does, as plain data. Counts alone: nothing in it tells one request's tokens. */
export interface EngineSnapshot extends EngineStats {
  /** Milliseconds since 1970. */
  readonly at: number;
  readonly layers: readonly LayerSnapshot[];
  readonly lanes: readonly LaneStats[];
}

export function takeSnapshot(model: MoeModel, history: LoadHistory): EngineSnapshot {
  const loads = history.snapshot(Object.values(WINDOWS));
  const layers = model.program.layers.map(({ index, name, router }): LayerSnapshot => {
    const none = new LoadSums(router.experts).read();
    const { total = none, windows = [] } = loads.get(index) ?? {};
    const named = Object.keys(WINDOWS).map((key, i) => [key, windows[i] ?? none]);
    const { experts, choices } = router;
    return { layer: index, name, experts, choices, total, windows: Object.fromEntries(named) };
  });
  return { at: Date.now(), ...model.engine.stats(), layers, lanes: model.backend.lanes() };
}
