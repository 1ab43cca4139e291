import type { RouterSetting, Trace } from './api.js';
import { expertClass } from './colours.js';
import { errorBox } from './controls.js';
import { h, replace } from './dom.js';
import { TokenView } from './token-view.js';

const OWN_RULE = "the package's own";

/** One of the two rules: its settings, and the text under it. */
export class CompareSide {
  readonly settings: HTMLFieldSetElement;
  readonly element: HTMLElement;
  readonly #preset = h('select', {});
  readonly #k = h('input', { type: 'number', min: 1, step: 1 });
  readonly #factor = h('input', {
    type: 'text',
    inputmode: 'decimal',
    placeholder: '1.25 or none',
    pattern: '\\s*(none|[0-9]*[.]?[0-9]+)?\\s*',
    title: 'A number above 0, or none',
  });
  readonly #error = errorBox();
  readonly #rule = h('small');
  readonly #bars = h('div', { class: 'load-bars' });
  readonly #tokens: TokenView;
  readonly #body = h('div');
  #trace: Trace | undefined;

  constructor(
    readonly name: 'A' | 'B',
    selected: (token: number) => void,
  ) {
    this.#tokens = new TokenView(`Tokens under rule ${name}`, selected);
    const field = (label: string, input: HTMLElement) =>
      h('label', { class: 'field' }, h('span', {}, label), input);
    this.settings = h(
      'fieldset',
      { class: 'rule' },
      h('legend', {}, `Rule ${name}`),
      field('Preset', this.#preset),
      field('k', this.#k),
      field('Capacity factor', this.#factor),
    );
    this.offer([], '');
    replace(this.#body, this.#bars, h('div', { class: 'token-box' }, this.#tokens.element));
    this.#body.hidden = true;
    this.element = h(
      'div',
      { class: 'card side', hidden: true },
      h('h2', {}, `Rule ${name} `, this.#rule),
      this.#error.element,
      this.#body,
    );
  }

  /** The presets of the server. */
  offer(presets: readonly string[], chosen: string): void {
    replace(
      this.#preset,
      h('option', { value: '' }, OWN_RULE),
      ...presets.map((preset) => h('option', { value: preset }, preset)),
    );
    this.#preset.value = chosen;
  }

  /** undefined: the package's own rule as it is. */
  setting(): RouterSetting | undefined {
    const preset = this.#preset.value;
    const k = this.#k.valueAsNumber;
    const factor = this.#factor.value.trim();
    const setting: RouterSetting = {
      ...(preset !== '' && { preset }),
      ...(Number.isFinite(k) && { k }),
      ...(factor !== '' && { capacity_factor: factor === 'none' ? 'none' : Number(factor) }),
    };
    return Object.keys(setting).length > 0 ? setting : undefined;
  }

  /** Shows an error in place of the text; with none, this side waits for the other. */
  fail(error: unknown): void {
    this.element.hidden = error === undefined;
    this.#body.hidden = true;
    this.#rule.textContent = '';
    if (error !== undefined) this.#error.show(error);
  }

  show(trace: Trace, layer: number): void {
    this.#trace = trace;
    this.element.hidden = false;
    this.#body.hidden = false;
    this.#error.hide();
    const { preset, k, capacity_factor: factor, causal } = trace.router;
    const parts = [preset, `k ${k}`, `capacity ${factor ?? 'none'}`, causal ? '' : 'not causal'];
    this.#rule.textContent = parts.filter(Boolean).join(', ');
    this.#tokens.show(trace, layer);
  }

  paint(layer: number, differs: (token: number) => boolean): void {
    this.#tokens.paint(layer, differs);
    const { load, kept, experts } = this.#trace!.layers[layer]!;
    const highest = Math.max(1, ...load);
    const bars = Array.from({ length: experts }, (_, expert) => {
      const [chosen, taken] = [load[expert] ?? 0, kept[expert] ?? 0];
      const height = (value: number) => `${(value / highest) * 100}%`;
      return h(
        'li',
        { 'aria-label': `expert ${expert}: ${chosen} chosen, ${taken} kept` },
        h('span', { class: 'count', 'aria-hidden': 'true' }, chosen),
        h(
          'span',
          { class: 'column', 'aria-hidden': 'true' },
          h('span', { class: 'lost', style: { height: height(chosen - taken) } }),
          h('span', { class: 'kept', style: { height: height(taken) } }),
        ),
        h('span', { class: `swatch ${expertClass(expert)}`, 'aria-hidden': 'true' }, expert),
      );
    });
    replace(this.#bars, h('ul', { 'aria-label': `Load of the experts under rule ${this.name}` }, ...bars));
  }

  select(token: number): void {
    this.#tokens.select(token);
  }

  nameOf(token: number): string {
    return this.#tokens.nameOf(token);
  }
}
