import { h, uniqueId } from './dom.js';

/** A few values to choose one of, as native radio buttons: arrow keys work by themselves. */
export function segmented<T extends string>(
  label: string,
  values: readonly (readonly [value: T, text: string])[],
  chosen: (value: T) => void,
  first: T = values[0]![0],
): HTMLFieldSetElement {
  const name = uniqueId('choice');
  return h(
    'fieldset',
    { class: 'segmented' },
    h('legend', {}, label),
    ...values.map(([value, text]) =>
      h(
        'label',
        {},
        h('input', {
          type: 'radio',
          name,
          value,
          checked: value === first,
          on: { change: () => chosen(value) },
        }),
        h('span', {}, text),
      ),
    ),
  );
}

export interface Field {
  readonly element: HTMLLabelElement;
  readonly input: HTMLInputElement;
}

export function numberField(label: string, attributes: Readonly<Record<string, string | number>>): Field {
  const input = h('input', { type: 'number', ...attributes });
  return { element: h('label', { class: 'field' }, h('span', {}, label), input), input };
}

/** Chooses one of the layers; few are shown side by side, many in a list. */
export class LayerChoice {
  readonly element = h('div', { class: 'layer-choice' });
  #names = '';
  value = 0;

  constructor(
    readonly chosen: (layer: number) => void,
    readonly first: 'first' | 'last' = 'first',
  ) {}

  set(names: readonly string[]): void {
    const key = names.join('\n');
    if (key === this.#names) return;
    this.#names = key;
    this.value = this.first === 'first' ? 0 : names.length - 1;
    const choose = (layer: number) => {
      this.value = layer;
      this.chosen(layer);
    };
    this.element.replaceChildren((names.length <= 8 ? fewLayers : manyLayers)(names, this.value, choose));
  }
}

function fewLayers(names: readonly string[], chosen: number, choose: (layer: number) => void): HTMLElement {
  const values = names.map((_, layer) => [String(layer), String(layer)] as const);
  return segmented('Layer', values, (value) => choose(Number(value)), String(chosen));
}

function manyLayers(names: readonly string[], chosen: number, choose: (layer: number) => void): HTMLElement {
  const select = h('select', { on: { change: () => choose(select.selectedIndex) } });
  select.append(...names.map((name) => h('option', {}, name)));
  select.selectedIndex = chosen;
  return h('label', { class: 'field' }, h('span', {}, 'Layer'), select);
}

/** What went wrong, in the words of the server. */
export function errorBox(): { element: HTMLElement; show(error: unknown): void; hide(): void } {
  const element = h('p', { class: 'error', role: 'alert', hidden: true });
  return {
    element,
    show(error) {
      const { message, code } = error as { message: string; code?: string | null };
      element.replaceChildren(...(code ? [h('code', {}, code), ' '] : []), message);
      element.hidden = false;
    },
    hide() {
      element.hidden = true;
    },
  };
}
