import type { Trace, WaterfallStep } from './api.js';
import { h, replace } from './dom.js';
import { milliseconds, plural } from './format.js';
import { Roving } from './roving.js';
import { STAGES, type Stage, stageMs, stageTotals } from './stages.js';

/** The time of one request: its steps, and the layers of the chosen step, each cut into stages. */
export class Waterfall {
  readonly element = h('div', { class: 'waterfall' });
  readonly #detail = h('div', { class: 'step-detail' });
  #steps: HTMLElement[] = [];
  #names: readonly string[] = [];

  show({ waterfall: { steps, totalMs }, layers }: Trace): void {
    this.#names = layers.map(({ name }) => name);
    const list = h('div', { class: 'steps', role: 'listbox', 'aria-label': 'Steps of the request' });
    this.#steps = steps.map((step, i) => this.#step(step, i, totalMs));
    list.append(...this.#steps);
    const choose = (target: EventTarget | null) => {
      const at = this.#steps.findIndex((element) => element.contains(target as Node | null));
      if (at >= 0) this.#choose(steps, at);
    };
    new Roving(list, { items: () => this.#steps, moved: choose, columns: () => 1 }).reset();
    list.addEventListener('click', ({ target }) => choose(target));
    const head = `${plural(steps.length, 'step')}, ${milliseconds(totalMs)}`;
    replace(
      this.element,
      h('h2', {}, 'Where the time went ', h('small', {}, head)),
      stageTotals(totalsOf(steps)),
      list,
      this.#detail,
    );
    this.#choose(steps, 0);
  }

  #step(step: WaterfallStep, i: number, totalMs: number): HTMLElement {
    const total = Math.max(totalMs, 1e-6);
    const bar = h('span', {
      class: 'bar',
      style: {
        left: `${(step.fromMs / total) * 100}%`,
        width: `${((step.toMs - step.fromMs) / total) * 100}%`,
      },
    });
    for (const [stage, ms] of totalsOf([step])) {
      bar.append(h('span', { class: `stage stage-${stage}`, style: { 'flex-grow': String(ms) } }));
    }
    const others = step.batchRows - step.rows;
    const text = `${plural(step.rows, 'row')}${others > 0 ? ` + ${others} of others` : ''}`;
    return h(
      'div',
      { class: 'step', role: 'option', 'aria-selected': 'false', tabindex: -1 },
      h('span', {}, `Step ${i + 1}`),
      h('span', { class: 'muted' }, text),
      h('span', { class: 'number' }, milliseconds(step.toMs - step.fromMs)),
      h('span', { class: 'track', 'aria-hidden': 'true' }, bar),
    );
  }

  #choose(steps: readonly WaterfallStep[], at: number): void {
    const step = steps[at];
    this.#steps.forEach((element, i) => {
      element.setAttribute('aria-selected', String(i === at));
    });
    if (!step) return;
    const rows = step.layers.map((layer) => this.#layer(step, layer));
    replace(
      this.#detail,
      h(
        'h3',
        {},
        `Step ${at + 1}: its layers `,
        h('small', {}, `0 to ${milliseconds(step.toMs - step.fromMs)}; between them the trunk`),
      ),
      ...rows,
    );
  }

  #layer(step: WaterfallStep, { layer, fromMs, stages }: WaterfallStep['layers'][number]): HTMLElement {
    const length = Math.max(step.toMs - step.fromMs, 1e-6);
    const sum = STAGES.reduce((all, stage) => all + stageMs(stages, stage), 0);
    const offset = fromMs - step.fromMs;
    const bar = h('span', {
      class: 'bar',
      style: { left: `${(offset / length) * 100}%`, width: `${(sum / length) * 100}%` },
    });
    for (const stage of STAGES) {
      const ms = stageMs(stages, stage);
      const title = `${stage} ${milliseconds(ms)}`;
      bar.append(h('span', { class: `stage stage-${stage}`, title, style: { 'flex-grow': String(ms) } }));
    }
    const told = STAGES.map((stage) => `${stage} ${milliseconds(stageMs(stages, stage))}`).join(', ');
    return h(
      'div',
      { class: 'step layer' },
      h('span', {}, this.#names[layer] ?? `layer ${layer}`),
      h('span', { class: 'number' }, milliseconds(sum), h('span', { class: 'aloud' }, `: ${told}`)),
      h('span', { class: 'track', 'aria-hidden': 'true' }, bar),
    );
  }
}

/** Milliseconds by stage over steps; what no layer accounts for is the trunk. */
function totalsOf(steps: readonly WaterfallStep[]): Map<Stage, number> {
  const totals = new Map<Stage, number>(STAGES.map((stage) => [stage, 0]));
  let all = 0;
  for (const { fromMs, toMs, layers } of steps) {
    all += toMs - fromMs;
    for (const { stages } of layers) {
      for (const stage of STAGES) totals.set(stage, totals.get(stage)! + stageMs(stages, stage));
    }
  }
  const told = [...totals.values()].reduce((sum, ms) => sum + ms, 0);
  return totals.set('trunk', Math.max(0, all - told));
}
