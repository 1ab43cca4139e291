import type { LaneReport, StatusReport } from './api.js';
import { type Child, h, replace } from './dom.js';
import { bytes, count, duration, milliseconds, plural, ranges, short } from './format.js';
import { STAGES, type Stage, stageMs, stageTotals } from './stages.js';

const HEAD = [
  'Lane',
  'Device',
  'State',
  'Experts',
  'Queue',
  'Calls',
  'Rows',
  'Per call',
  'Last second',
  'Memory',
  'Restarts',
  'Last death',
];

/** The server and the places where its experts compute. */
export class LanesView {
  readonly #tiles = h('dl', { class: 'tiles' });
  readonly #stages = h('div');
  readonly #lanes = h('tbody');
  #last: { readonly at: number; readonly report: StatusReport } | undefined;
  #built = false;

  constructor(readonly root: HTMLElement) {}

  take(report: StatusReport): void {
    if (!this.#built) this.#build();
    const now = { at: performance.now(), report };
    const before = this.#last;
    replace(this.#tiles, ...tiles(report, before));
    const { stageMs: times } = report.engine;
    if (times) {
      const all: readonly Stage[] = [...STAGES, 'trunk'];
      replace(this.#stages, stageTotals(new Map(all.map((stage) => [stage, stageMs(times, stage)]))));
    }
    const earlier = new Map(before?.report.lanes.map((lane) => [lane.lane, lane]));
    replace(this.#lanes, ...report.lanes.map((lane) => laneRow(lane, earlier.get(lane.lane))));
    this.#last = now;
  }

  #build(): void {
    this.#built = true;
    const table = h(
      'table',
      { class: 'figures lanes' },
      h('caption', { class: 'aloud' }, 'Lanes'),
      h('thead', {}, h('tr', {}, ...HEAD.map((text) => h('th', { scope: 'col' }, text)))),
      this.#lanes,
    );
    replace(
      this.root,
      h('div', { class: 'card' }, h('div', { class: 'card-head' }, h('h2', {}, 'Server')), this.#tiles),
      h(
        'div',
        { class: 'card' },
        h('div', { class: 'card-head' }, h('h2', {}, 'Engine time by stage')),
        this.#stages,
      ),
      h(
        'div',
        { class: 'card' },
        h('div', { class: 'card-head' }, h('h2', {}, 'Lanes')),
        h('div', { class: 'scroll' }, table),
      ),
    );
  }
}

function tiles(
  report: StatusReport,
  before: { readonly at: number; readonly report: StatusReport } | undefined,
): HTMLElement[] {
  const { admission, engine, memory } = report;
  const seconds = before ? (performance.now() - before.at) / 1_000 : 0;
  const rate = (value: (status: StatusReport) => number) =>
    before && seconds > 0 ? Math.max(0, (value(report) - value(before.report)) / seconds) : null;
  const steps = rate((status) => status.engine.steps);
  const rows = rate((status) => status.engine.rows);
  const { cache } = engine;
  const all: readonly (readonly [term: string, value: Child, note: string])[] = [
    ['State', report.state, `version ${report.version}`],
    ['Running', count(admission.running), `of ${count(admission.runningLimit)}`],
    ['Waiting', count(admission.waiting), `of ${count(admission.queueLimit)}`],
    ['Steps', steps === null ? '\u2013' : `${count(steps)}/s`, `${short(engine.steps)} in all`],
    [
      'Rows',
      rows === null ? '\u2013' : `${count(rows)}/s`,
      steps ? `${((rows ?? 0) / steps).toFixed(1)} a step` : `${short(engine.rows)} in all`,
    ],
    ['Cache', cache ? count(cache.used) : '\u2013', cache ? `of ${count(cache.limit)} blocks` : ''],
    ['Memory', bytes(memory.rssBytes), 'resident'],
    ['Up', duration(Date.now() - report.startedAt), 'since start'],
  ];
  return all.map(([term, value, note]) =>
    h('div', {}, h('dt', {}, term), h('dd', {}, value), h('dd', { class: 'note' }, note)),
  );
}

function laneRow(lane: LaneReport, before: LaneReport | undefined): HTMLTableRowElement {
  const compute = computeMs(lane);
  const perCall = lane.calls > 0 && compute !== undefined ? compute / lane.calls : null;
  const calls = before ? lane.calls - before.calls : 0;
  const earlier = before && computeMs(before);
  const latest =
    calls > 0 && compute !== undefined && earlier !== undefined ? (compute - earlier) / calls : null;
  const { process } = lane;
  const told = lane.device.split(':')[0] === lane.provider;
  const device = told ? lane.device : `${lane.device} (${lane.provider})`;
  const circuit = process?.circuit && process.circuit !== 'closed' ? `, circuit ${process.circuit}` : '';
  const cells: readonly string[] = [
    device,
    '',
    expertsOf(lane.experts),
    count(lane.queue),
    count(lane.calls),
    count(lane.rows),
    milliseconds(perCall),
    milliseconds(latest),
    process?.rssBytes ? bytes(process.rssBytes) : '\u2013',
    count(lane.restarts),
    process?.lastDeath ?? '\u2013',
  ];
  const row = h('tr', {}, h('th', { scope: 'row' }, lane.lane), ...cells.map((text) => h('td', {}, text)));
  replace(row.cells[2]!, h('span', { class: 'state', 'data-state': lane.state }, `${lane.state}${circuit}`));
  row.cells[3]!.title = ranges(lane.experts);
  if (!process) row.cells[9]!.title = 'The lane shares the memory of the server.';
  return row;
}

/** Their numbers where these are few ranges, else how many. */
function expertsOf(experts: readonly number[]): string {
  const text = ranges(experts);
  return text.length <= 16 ? text : plural(experts.length, 'expert');
}

function computeMs(lane: LaneReport): number | undefined {
  return lane.computeMs ?? lane.process?.computeMs;
}
