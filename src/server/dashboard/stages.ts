import type { StageTimes } from './api.js';
import { h } from './dom.js';
import { milliseconds, percent } from './format.js';

/** In the order of a layer; the trunk is the rest of a step. Each has a colour and a pattern in style.css. */
export const STAGES = ['gate', 'route', 'dispatch', 'transport', 'compute', 'combine'] as const;
export type Stage = (typeof STAGES)[number] | 'trunk';

export function stageMs(times: StageTimes, stage: Stage): number {
  return times[`${stage}Ms`] ?? 0;
}

/** One bar of all stages, and the same as a list with numbers. */
export function stageTotals(totals: ReadonlyMap<Stage, number>): HTMLElement {
  const all = [...totals.values()].reduce((sum, ms) => sum + ms, 0);
  const spent = [...totals].filter(([, ms]) => ms > 0);
  const segments = spent.map(([stage, ms]) =>
    h('span', { class: `stage stage-${stage}`, style: { 'flex-grow': String(ms) } }),
  );
  const entries = [...totals].map(([stage, ms]) =>
    h(
      'li',
      {},
      h('span', { class: `swatch stage-${stage}` }),
      h('span', {}, stage),
      h(
        'span',
        { class: 'amount' },
        h('b', {}, milliseconds(ms)),
        ' ',
        h('small', {}, percent(all > 0 ? ms / all : 0, 0)),
      ),
    ),
  );
  return h(
    'div',
    { class: 'stage-totals' },
    h('div', { class: 'stage-bar', 'aria-hidden': 'true' }, ...segments),
    h('ul', { class: 'legend stages', 'aria-label': 'Time by stage' }, ...entries),
  );
}
