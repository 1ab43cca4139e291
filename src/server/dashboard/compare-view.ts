import type { RouterSetting, RoutingReport, Trace } from './api.js';
import { choices, differenceByLayer, figuresOf } from './compare-figures.js';
import { CompareSide } from './compare-side.js';
import { differences } from './compare-tokens.js';
import { LayerChoice } from './controls.js';
import { h, replace } from './dom.js';
import type { Http } from './http.js';
import { SAMPLES } from './samples.js';

type Pair<T> = readonly [a: T, b: T];

/** Two rules over the same text. */
export class CompareView {
  readonly #text = h('textarea', { id: 'compare-text', rows: 3, spellcheck: 'false', autocomplete: 'off' });
  readonly #button = h('button', { class: 'primary', type: 'submit' }, 'Compare');
  readonly #layers = new LayerChoice((layer) => this.#paint(layer), 'last');
  readonly #sides: Pair<CompareSide>;
  readonly #summary = h('div', { class: 'scroll' });
  readonly #depth = h('div');
  readonly #summaryCard = h('div', { class: 'card', hidden: true });
  readonly #readout = h('p', { class: 'readout', role: 'status' });
  #traces: Pair<Trace> | undefined;
  #differs: readonly (readonly boolean[])[] = [];
  #knownPresets = '';

  constructor(
    root: HTMLElement,
    readonly http: Http,
  ) {
    this.#text.value = SAMPLES[0]![1];
    this.#sides = [
      new CompareSide('A', (token) => this.#select(token, 0)),
      new CompareSide('B', (token) => this.#select(token, 1)),
    ];
    const form = h(
      'form',
      { class: 'card', on: { submit: (event) => this.#submit(event) } },
      h('div', { class: 'card-head' }, h('label', { for: 'compare-text' }, 'Text')),
      this.#text,
      h('div', { class: 'two' }, ...this.#sides.map(({ settings }) => settings)),
      h(
        'div',
        { class: 'form-row' },
        h('span', { class: 'hint' }, 'Empty fields keep what the preset says.'),
        this.#button,
      ),
    );
    this.#text.addEventListener('keydown', (event) => {
      if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) form.requestSubmit();
    });
    replace(
      this.#summaryCard,
      h('div', { class: 'card-head' }, h('h2', {}, 'Difference'), this.#layers.element),
      h('div', { class: 'difference' }, this.#summary, this.#depth),
      this.#readout,
    );
    const results = h('div', { class: 'two results' }, ...this.#sides.map(({ element }) => element));
    replace(root, form, this.#summaryCard, results);
  }

  know({ layers, presets = [] }: RoutingReport): void {
    if (!this.#traces) this.#layers.set(layers.map(({ name }) => name));
    const key = presets.join();
    if (key === this.#knownPresets) return;
    this.#knownPresets = key;
    const usual = presets.includes('switch') ? 'switch' : '';
    this.#sides[0].offer(presets, '');
    this.#sides[1].offer(presets, usual);
  }

  #submit(event: Event): void {
    event.preventDefault();
    void this.#compare();
  }

  async #compare(): Promise<void> {
    if (this.#button.hasAttribute('aria-busy')) return;
    this.#button.toggleAttribute('aria-busy', true);
    const text = this.#text.value;
    const ask = (router: RouterSetting | undefined) =>
      this.http.post<Trace>('/v1/routing/trace', router ? { text, router } : { text });
    const answers = await Promise.allSettled(this.#sides.map((side) => ask(side.setting())));
    this.#button.toggleAttribute('aria-busy', false);
    const [a, b] = answers;
    if (a?.status === 'fulfilled' && b?.status === 'fulfilled') return this.#show([a.value, b.value]);
    this.#summaryCard.hidden = true;
    this.#sides.forEach((side, i) => {
      const answer = answers[i]!;
      side.fail(answer.status === 'rejected' ? answer.reason : undefined);
    });
  }

  #show(traces: Pair<Trace>): void {
    this.#traces = traces;
    this.#differs = differences(...traces);
    this.#summaryCard.hidden = false;
    this.#layers.set(traces[0].layers.map(({ name }) => name));
    this.#readout.textContent =
      'Choose a token to see both answers. A bar under a token marks another set of experts.';
    const layer = this.#layers.value;
    this.#sides.forEach((side, i) => {
      side.show(traces[i]!, layer);
    });
    this.#paint(layer);
  }

  #paint(layer: number): void {
    const traces = this.#traces;
    if (!traces) return;
    for (const side of this.#sides) side.paint(layer, (token) => this.#differs[token]?.[layer] ?? false);
    replace(this.#summary, figuresOf(traces, layer, this.#differs));
    replace(this.#depth, differenceByLayer(traces[0], layer, this.#differs));
  }

  #select(token: number, from: 0 | 1): void {
    this.#sides[1 - from]!.select(token);
    const layer = this.#layers.value;
    const said = this.#sides.map((side, i) =>
      h('span', {}, `${side.name}: ${choices(this.#traces![i]!, token, layer)}`),
    );
    replace(this.#readout, h('b', {}, this.#sides[from].nameOf(token)), `position ${token}`, ...said);
  }
}
