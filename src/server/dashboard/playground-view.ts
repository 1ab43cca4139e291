import type { LayerReport, Trace, TraceRequest } from './api.js';
import { errorBox, LayerChoice, numberField } from './controls.js';
import { h, replace, setText } from './dom.js';
import { fixed, percent, plural } from './format.js';
import type { Http } from './http.js';
import { SAMPLES } from './samples.js';
import { TokenPanel } from './token-panel.js';
import { expertLegend, TokenView } from './token-view.js';
import { Waterfall } from './waterfall.js';

/** Type a text, see which expert takes each token. */
export class PlaygroundView {
  readonly #text = h('textarea', {
    id: 'playground-text',
    rows: 4,
    spellcheck: 'false',
    autocomplete: 'off',
  });
  readonly #more = numberField('Continue by tokens', {
    id: 'playground-more',
    min: 0,
    max: 512,
    step: 1,
    value: 0,
  });
  readonly #heat = numberField('Temperature', {
    id: 'playground-temperature',
    min: 0,
    max: 2,
    step: 0.1,
    value: 0.8,
  });
  readonly #button = h('button', { class: 'primary', type: 'submit' }, 'Route');
  readonly #layers = new LayerChoice((layer) => this.#paint(layer));
  readonly #tokens = new TokenView('Tokens', (token) => this.#select(token));
  readonly #panel = new TokenPanel();
  readonly #waterfall = new Waterfall();
  readonly #legend = h('div');
  readonly #summary = h('p', { class: 'summary', role: 'status' });
  readonly #error = errorBox();
  readonly #result = h('div', { hidden: true });
  readonly #hint = h(
    'p',
    { class: 'empty' },
    'Each token of your text will stand here, in the colour of the expert that takes it.',
  );
  #trace: Trace | undefined;
  #token: number | undefined;
  #asked: AbortController | undefined;

  constructor(
    root: HTMLElement,
    readonly http: Http,
  ) {
    const samples = SAMPLES.map(([name, text]) =>
      h('button', { type: 'button', on: { click: () => this.#sample(text) } }, name),
    );
    const form = h(
      'form',
      { class: 'card', on: { submit: (event) => this.#submit(event) } },
      h(
        'div',
        { class: 'card-head' },
        h('label', { for: 'playground-text' }, 'Text'),
        h('div', { class: 'samples' }, 'Try', ...samples),
      ),
      this.#text,
      h(
        'div',
        { class: 'form-row' },
        this.#more.element,
        this.#heat.element,
        h('span', { class: 'hint' }, 'Ctrl + Enter'),
        this.#button,
      ),
    );
    this.#text.value = SAMPLES[0]![1];
    this.#text.addEventListener('keydown', (event) => {
      if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) form.requestSubmit();
    });
    replace(this.#result, this.#resultParts());
    replace(root, form, this.#error.element, this.#hint, this.#result);
  }

  know(layers: readonly LayerReport[]): void {
    if (!this.#trace) this.#layers.set(layers.map(({ name }) => name));
  }

  #resultParts(): HTMLElement {
    const tokens = h(
      'div',
      { class: 'card' },
      h('div', { class: 'card-head' }, h('h2', {}, 'Tokens by expert'), this.#layers.element),
      this.#legend,
      h('div', { class: 'token-box' }, this.#tokens.element),
      this.#summary,
    );
    const time = h('div', { class: 'card' }, this.#waterfall.element);
    return h(
      'div',
      { class: 'result' },
      h('div', { class: 'tokens-and-panel' }, tokens, this.#panel.element),
      time,
    );
  }

  #sample(text: string): void {
    this.#text.value = text;
    this.#text.form!.requestSubmit();
  }

  #submit(event: Event): void {
    event.preventDefault();
    void this.#route();
  }

  async #route(): Promise<void> {
    this.#asked?.abort();
    const asked = new AbortController();
    this.#asked = asked;
    this.#busy(true);
    this.#error.hide();
    const maxTokens = this.#more.input.valueAsNumber || 0;
    const request: TraceRequest = {
      text: this.#text.value,
      max_tokens: maxTokens,
      ...(maxTokens > 0 && { temperature: this.#heat.input.valueAsNumber || 0 }),
    };
    try {
      this.#show(await this.http.post<Trace>('/v1/routing/trace', request, asked.signal));
    } catch (error) {
      if (!asked.signal.aborted) this.#error.show(error);
    } finally {
      if (this.#asked === asked) this.#busy(false);
    }
  }

  #busy(busy: boolean): void {
    this.#button.toggleAttribute('aria-busy', busy);
    setText(this.#button, busy ? 'Routing' : 'Route');
  }

  #show(trace: Trace): void {
    this.#trace = trace;
    this.#token = undefined;
    this.#hint.hidden = true;
    this.#result.hidden = false;
    this.#layers.set(trace.layers.map(({ name }) => name));
    this.#panel.clear();
    this.#tokens.show(trace, this.#layers.value);
    this.#waterfall.show(trace);
    this.#paint(this.#layers.value);
  }

  #paint(layer: number): void {
    const trace = this.#trace;
    if (!trace) return;
    this.#tokens.paint(layer);
    replace(this.#legend, expertLegend(trace, layer));
    const { name, dropRate } = trace.layers[layer]!;
    const bits = trace.bits_per_byte === null ? '' : `, ${fixed(trace.bits_per_byte, 3)} bits per byte`;
    setText(
      this.#summary,
      `${plural(trace.tokens.length, 'token')}${bits}. In ${name}, ${percent(dropRate)} of the choices were dropped (\u00d7).`,
    );
    if (this.#token !== undefined) this.#panel.show(trace, this.#token, layer);
  }

  #select(token: number): void {
    this.#token = token;
    this.#panel.show(this.#trace!, token, this.#layers.value);
  }
}
