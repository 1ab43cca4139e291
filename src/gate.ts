import { TurnoutError } from './errors.js';
import { openSession, type Session } from './experts/session.js';
import { type Matrix, matrix } from './tensor.js';

/** The learned network that scores tokens. */
export interface Gate {
  /** x [T,H] -> logits [T,E], and for a noisy gate the scale of its noise [T,E] before softplus. */
  score(x: Matrix): Promise<{ logits: Matrix; noiseScale?: Matrix }>;
  close(): Promise<void>;
}

/**
 * Opens an ONNX gate: input `x` [n,H], output `logits` [n,E], optionally a second output `noise_scale` [n,E].
 * Throws TURNOUT_FILE_MISSING or TURNOUT_SHAPE_MISMATCH with the file and what it holds instead.
 */
export async function openGate(path: string, hidden: number, experts: number): Promise<Gate> {
  const session = await openSession(path);
  checkPort(path, session, 'input', 'x', hidden);
  checkPort(path, session, 'output', 'logits', experts);
  const noisy = session.outputMetadata.some((port) => port.name === 'noise_scale');
  return {
    async score(x) {
      const outputs = await session.run({ x: { type: 'float32', dims: [x.rows, x.cols], data: x.data } });
      const read = (name: string) => matrix(outputs[name]!.data as Float32Array, x.rows, experts);
      return { logits: read('logits'), ...(noisy ? { noiseScale: read('noise_scale') } : {}) };
    },
    close: () => session.release(),
  };
}

function checkPort(
  path: string,
  session: Session,
  side: 'input' | 'output',
  name: string,
  cols: number,
): void {
  const ports = side === 'input' ? session.inputMetadata : session.outputMetadata;
  const port = ports.find((entry) => entry.name === name);
  const last = port?.shape.at(-1);
  if (port && (typeof last !== 'number' || last === cols)) return;
  const found = ports.map((entry) => `${entry.name} [${entry.shape.join(', ')}]`).join('; ');
  throw new TurnoutError(
    'TURNOUT_SHAPE_MISMATCH',
    `gate ${path}: expected ${side} ${name} [n, ${cols}], it has ${found}`,
    {
      path,
      expected: cols,
    },
  );
}
