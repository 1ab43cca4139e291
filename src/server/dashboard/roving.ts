export interface RovingOptions {
  /** The items in order; read at each key, so that they may change. */
  items(): readonly HTMLElement[];
  /** The item that the focus goes to. */
  moved?(item: HTMLElement): void;
  /** Items in one row of a grid. Where left out, up and down go to the next line on the screen. */
  columns?(): number;
}

/** One tab stop for many items: arrow keys, Home and End move the focus among them. */
export class Roving {
  #current: HTMLElement | undefined;

  constructor(
    readonly container: HTMLElement,
    readonly options: RovingOptions,
  ) {
    container.addEventListener('keydown', (event) => this.#key(event));
    container.addEventListener('focusin', (event) => {
      const item = this.#itemOf(event.target);
      if (item) this.#hold(item);
    });
  }

  /** Makes the tab stop the first item, after items were replaced. */
  reset(item: HTMLElement | undefined = this.options.items()[0]): void {
    if (item) this.#hold(item);
  }

  #hold(item: HTMLElement): void {
    if (this.#current === item) return;
    this.#current?.setAttribute('tabindex', '-1');
    item.setAttribute('tabindex', '0');
    this.#current = item;
  }

  #itemOf(target: EventTarget | null): HTMLElement | undefined {
    return this.options.items().find((item) => item === target);
  }

  #key(event: KeyboardEvent): void {
    if (event.altKey || event.ctrlKey || event.metaKey || !this.#itemOf(event.target)) return;
    const items = this.options.items();
    const at = items.indexOf(event.target as HTMLElement);
    const to = this.#destination(event.key, at, items);
    if (to === undefined) return;
    event.preventDefault();
    const item = items[Math.min(items.length - 1, Math.max(0, to))];
    if (!item) return;
    item.focus();
    this.options.moved?.(item);
  }

  #destination(key: string, at: number, items: readonly HTMLElement[]): number | undefined {
    const columns = this.options.columns?.();
    switch (key) {
      case 'ArrowLeft':
        return columns && at % columns === 0 ? at : at - 1;
      case 'ArrowRight':
        return columns && at % columns === columns - 1 ? at : at + 1;
      case 'ArrowUp':
        return columns ? (at < columns ? at : at - columns) : otherLine(items, at, -1);
      case 'ArrowDown':
        return columns ? (at + columns < items.length ? at + columns : at) : otherLine(items, at, 1);
      case 'Home':
        return columns ? at - (at % columns) : 0;
      case 'End':
        return columns ? at - (at % columns) + columns - 1 : items.length - 1;
      default:
        return undefined;
    }
  }
}

/** The item of the line above or below that lies nearest to the middle of this one. */
function otherLine(items: readonly HTMLElement[], at: number, step: 1 | -1): number {
  const here = items[at]!.getBoundingClientRect();
  const middle = (here.left + here.right) / 2;
  let best = at;
  let line: number | undefined;
  let distance = Number.POSITIVE_INFINITY;
  for (let i = at + step; i >= 0 && i < items.length; i += step) {
    const box = items[i]!.getBoundingClientRect();
    const away = step > 0 ? box.top >= here.bottom - 1 : box.bottom <= here.top + 1;
    if (!away) continue;
    line ??= box.top;
    if (Math.abs(box.top - line) > here.height / 2) break;
    const off = Math.abs((box.left + box.right) / 2 - middle);
    if (off < distance) {
      distance = off;
      best = i;
    }
  }
  return best;
}
