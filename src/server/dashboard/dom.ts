/** Text and elements; text is never parsed as markup. */
export type Child = Node | string | number | false | null | undefined;

type Attribute = string | number | boolean | undefined;

export interface Props {
  readonly class?: string;
  /** Custom properties and styles, set through the CSSOM: the policy of the page refuses style attributes. */
  readonly style?: Readonly<Record<string, string>>;
  readonly on?: { readonly [K in keyof HTMLElementEventMap]?: (event: HTMLElementEventMap[K]) => void };
  readonly [attribute: string]: unknown;
}

export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  props: Props = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  const { class: className, style, on, ...attributes } = props;
  if (className) element.className = className;
  for (const [name, value] of Object.entries(style ?? {})) element.style.setProperty(name, value);
  for (const [name, listener] of Object.entries(on ?? {})) {
    element.addEventListener(name, listener as EventListener);
  }
  for (const [name, value] of Object.entries(attributes)) setAttribute(element, name, value as Attribute);
  append(element, children);
  return element;
}

export function setAttribute(element: Element, name: string, value: Attribute): void {
  if (value === undefined || value === false) element.removeAttribute(name);
  else element.setAttribute(name, value === true ? '' : String(value));
}

export function append(parent: Element, children: readonly Child[]): void {
  for (const child of children) {
    if (child === false || child === null || child === undefined) continue;
    parent.append(typeof child === 'number' ? String(child) : child);
  }
}

export function replace(parent: Element, ...children: readonly Child[]): void {
  parent.replaceChildren();
  append(parent, children);
}

/** Writes only what changed: the page is refreshed each second. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** A bar for a share from 0 to 1. It stands beside its number, so it is not read aloud. */
export function meter(share: number): HTMLElement {
  const width = `${Math.min(1, Math.max(0, share)) * 100}%`;
  return h('span', { class: 'meter', 'aria-hidden': 'true' }, h('span', { style: { width } }));
}

/** An element of index.html. */
export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  const element = document.getElementById(id);
  if (!element) throw new Error(`index.html has no #${id}`);
  return element as T;
}

let lastId = 0;
export function uniqueId(prefix: string): string {
  lastId++;
  return `${prefix}-${lastId}`;
}
