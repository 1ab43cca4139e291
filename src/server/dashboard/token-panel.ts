import type { Trace } from './api.js';
import { expertClass } from './colours.js';
import { h, meter, replace } from './dom.js';
import { fixed, percent } from './format.js';
import { layOut } from './tokens.js';

const DROPS: Readonly<Record<string, string>> = {
  capacity: '\u00d7 expert full',
  'later-choice': '\u00d7 not taken',
  'bad-row': '\u00d7 bad row',
  lost: '\u00d7 expert lost',
};

/** One token: its experts, weights, scores and drops in every layer. */
export class TokenPanel {
  readonly element = h('aside', { class: 'card token-panel', 'aria-label': 'The chosen token' });

  constructor() {
    this.clear();
  }

  clear(): void {
    replace(this.element, h('p', { class: 'empty' }, 'Choose a token to see its experts in every layer.'));
  }

  show(trace: Trace, token: number, layer: number): void {
    const { id, logprob } = trace.tokens[token]!;
    const head = ['Layer', 'Expert', 'Weight', 'Score'];
    const rows = trace.layers.flatMap(({ name }, l) =>
      layerRows(trace, token, { name, index: l, current: l === layer }),
    );
    const table = h(
      'table',
      {},
      h('caption', { class: 'aloud' }, 'Experts of this token'),
      h('thead', {}, h('tr', {}, ...head.map((text) => h('th', { scope: 'col' }, text)))),
      h('tbody', {}, ...rows),
    );
    const facts = [
      ['position', String(token)],
      ['id', String(id)],
      ['probability', logprob === null ? '\u2013' : percent(Math.exp(logprob))],
      ['surprise', logprob === null ? '\u2013' : `${fixed(-logprob / Math.LN2, 2)} bits`],
    ] as const;
    const unseen =
      rows.length === 0 && 'The model has not seen this token yet: it was the last to be generated.';
    replace(
      this.element,
      h(
        'div',
        { class: 'panel-head' },
        title(trace, token),
        h(
          'dl',
          { class: 'facts' },
          ...facts.map(([term, text]) => h('div', {}, h('dt', {}, term), h('dd', {}, text))),
        ),
      ),
      unseen ? h('p', { class: 'empty' }, unseen) : h('div', { class: 'scroll' }, table),
    );
  }
}

function title(trace: Trace, token: number): HTMLElement {
  const clusters = layOut(trace.tokens).flat();
  const cluster = clusters.find(({ glyphs }) => glyphs.some(({ index }) => index === token))!;
  const glyph = cluster.glyphs.find(({ index }) => index === token)!;
  const origin = token >= trace.prompt_tokens ? 'generated' : 'prompt';
  const part = cluster.character
    ? `byte ${cluster.glyphs.indexOf(glyph) + 1} of ${cluster.glyphs.length} of ${cluster.character}`
    : glyph.name === glyph.show
      ? ''
      : glyph.name;
  return h(
    'h2',
    {},
    h('span', { class: 'big-glyph' }, glyph.show),
    ' ',
    h('small', {}, [part, origin].filter(Boolean).join(', ')),
  );
}

interface LayerPlace {
  readonly name: string;
  readonly index: number;
  readonly current: boolean;
}

function layerRows(trace: Trace, token: number, { name, index, current }: LayerPlace): HTMLElement[] {
  const pick = <T>(values: readonly (readonly (readonly T[])[])[]) => values[token]?.[index] ?? [];
  const [experts, weights, scores, drops] = [
    pick(trace.experts),
    pick(trace.weights),
    pick(trace.scores),
    pick(trace.drops),
  ];
  return experts.map((expert, choice) => {
    const why = drops[choice];
    const label = choice === 0 && h('th', { scope: 'rowgroup', rowspan: experts.length, title: name }, name);
    return h(
      'tr',
      { class: `${current ? 'current' : ''}${why ? ' dropped' : ''}${choice === 0 ? ' first' : ''}` },
      label,
      h('td', {}, h('span', { class: `swatch ${expertClass(expert)}` }, expert < 0 ? '\u2013' : expert)),
      h('td', { class: 'weight' }, why ? (DROPS[why] ?? `\u00d7 ${why}`) : weight(weights[choice] ?? 0)),
      h('td', { class: 'number' }, fixed(scores[choice], 3)),
    );
  });
}

function weight(value: number): HTMLElement {
  return h('span', { class: 'weight-of' }, meter(value), h('span', { class: 'number' }, fixed(value, 2)));
}
