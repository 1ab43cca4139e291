import type { Trace } from './api.js';
import { expertClass } from './colours.js';
import { h } from './dom.js';
import { plural } from './format.js';
import { Roving } from './roving.js';
import { type Cluster, type Glyph, layOut } from './tokens.js';

/** How a token fares in one layer. */
export interface Fate {
  /** First choice; -1 where it has none. */
  readonly expert: number;
  readonly drops: 'none' | 'some' | 'all';
}

export function fateOf(trace: Trace, token: number, layer: number): Fate {
  const experts = trace.experts[token]?.[layer] ?? [];
  const drops = trace.drops[token]?.[layer] ?? [];
  const chosen = experts.filter((expert) => expert >= 0).length;
  const lost = drops.filter((why) => why !== null).length;
  return { expert: experts[0] ?? -1, drops: lost === 0 ? 'none' : lost < chosen ? 'some' : 'all' };
}

interface Chip {
  readonly glyph: Glyph;
  readonly element: HTMLElement;
  readonly number: HTMLElement;
}

/** The text of a trace, each token coloured by its expert; one tab stop, arrow keys move and select. */
export class TokenView {
  readonly element = h('div', { class: 'tokens', role: 'listbox' });
  #chips: Chip[] = [];
  #trace: Trace | undefined;
  #selected: HTMLElement | undefined;
  readonly #roving: Roving;

  constructor(
    readonly label: string,
    readonly selected: (token: number) => void,
  ) {
    const choose = (target: EventTarget | null) => {
      const chip = this.#chips.find(({ element }) => element === target);
      if (chip) this.select(chip.glyph.index, true);
    };
    this.#roving = new Roving(this.element, {
      items: () => this.#chips.map(({ element }) => element),
      moved: choose,
    });
    this.element.addEventListener('click', (event) => {
      const chip = (event.target as Element).closest<HTMLElement>('.token');
      chip?.focus();
      choose(chip);
    });
    this.element.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' && event.key !== ' ') return;
      event.preventDefault();
      choose(event.target);
    });
  }

  show(trace: Trace, layer: number): void {
    this.#trace = trace;
    this.#chips = [];
    this.#selected = undefined;
    const words = layOut(trace.tokens).map((word) => this.#word(word));
    this.element.replaceChildren(...words.flat());
    this.paint(layer);
    this.#roving.reset();
  }

  /** Colours for another layer. `differs` marks tokens, where it is told. */
  paint(layer: number, differs?: (token: number) => boolean): void {
    const trace = this.#trace;
    if (!trace) return;
    const name = trace.layers[layer]?.name ?? `layer ${layer}`;
    this.element.setAttribute('aria-label', `${this.label}, by first choice in ${name}`);
    for (const { glyph, element, number } of this.#chips) {
      const { expert, drops } = fateOf(trace, glyph.index, layer);
      const other = differs?.(glyph.index) ?? false;
      const generated = glyph.index >= trace.prompt_tokens ? ' generated' : '';
      element.className = `token ${expertClass(expert)}${generated}${other ? ' differs' : ''}`;
      element.dataset.expert = String(expert);
      element.dataset.drops = drops;
      number.textContent = `${drops === 'none' ? '' : '\u00d7'}${expert < 0 ? '\u2013' : expert}`;
      element.setAttribute('aria-label', describe(glyph, { expert, drops }, other));
    }
  }

  select(token: number, tell = false): void {
    this.#selected?.setAttribute('aria-selected', 'false');
    this.#selected = this.#chips[token]?.element;
    this.#selected?.setAttribute('aria-selected', 'true');
    if (this.#selected) this.#roving.reset(this.#selected);
    if (tell) this.selected(token);
  }

  nameOf(token: number): string {
    return this.#chips[token]?.glyph.name ?? '';
  }

  #word(word: readonly Cluster[]): HTMLElement[] {
    const parts = word.map((cluster) => {
      const chips = cluster.glyphs.map((glyph) => this.#chip(glyph));
      if (cluster.character === undefined) return chips;
      const character = h('span', { class: 'character', 'aria-hidden': 'true' }, cluster.character);
      const label = `character ${cluster.character}`;
      return [h('span', { class: 'cluster', role: 'group', 'aria-label': label }, character, ...chips)];
    });
    const line = h('span', { class: 'word', role: 'presentation' }, ...parts.flat());
    return word.at(-1)!.breaksLine ? [line, h('span', { class: 'line-end', role: 'presentation' })] : [line];
  }

  #chip(glyph: Glyph): HTMLElement {
    const number = h('span', { class: 'number' });
    const element = h(
      'span',
      { class: 'token', role: 'option', tabindex: -1, 'aria-selected': 'false' },
      h('span', { class: 'glyph' }, glyph.show),
      number,
    );
    this.#chips[glyph.index] = { glyph, element, number };
    return element;
  }
}

function describe(glyph: Glyph, { expert, drops }: Fate, other: boolean): string {
  const where = expert < 0 ? 'no expert' : `expert ${expert}`;
  const lost = { none: '', some: ', a choice dropped', all: ', dropped' }[drops];
  return `${glyph.name}, ${where}${lost}${other ? ', differs' : ''}`;
}

/** What the colours mean: each expert with the tokens that chose it first. */
export function expertLegend(trace: Trace, layer: number): HTMLElement {
  const experts = trace.layers[layer]?.experts ?? 0;
  const firsts = Array.from({ length: experts }, () => 0);
  for (const perLayer of trace.experts) {
    const first = perLayer[layer]?.[0];
    if (first !== undefined && first >= 0) firsts[first]!++;
  }
  const entries = firsts.map((tokens, expert) =>
    h(
      'li',
      { title: `expert ${expert}: first choice of ${plural(tokens, 'token')}` },
      h('span', { class: `swatch ${expertClass(expert)}` }, expert),
      h('span', {}, tokens),
    ),
  );
  return h(
    'ul',
    { class: 'legend experts', 'aria-label': 'Experts and the tokens that chose them first' },
    ...entries,
  );
}
