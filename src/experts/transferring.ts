import { move, transferableSymbol, valueSymbol } from 'piscina';

/** `value` as piscina sends it: with `buffer` transferred instead of cloned. */
export function transferring<T extends object>(value: T, buffer: ArrayBuffer): T {
  const sent = { [transferableSymbol]: buffer, [valueSymbol]: value };
  return move(sent as unknown as Parameters<typeof move>[0]) as unknown as T;
}
