import { fileURLToPath } from 'node:url';

/** The package that comes with turnout. */
export const BUNDLED = fileURLToPath(new URL('../../../experts/babel', import.meta.url));

/** A line on the terminal that is written over: how far long work is. Silent where nobody watches. */
export function progressLine(stream: NodeJS.WriteStream = process.stderr): {
  update(text: string): void;
  clear(): void;
} {
  const wipe = '\r\u001B[2K';
  return {
    update(text) {
      if (stream.isTTY) stream.write(`${wipe}${text}`);
    },
    clear() {
      if (stream.isTTY) stream.write(wipe);
    },
  };
}
