import { createHash } from 'node:crypto';
import { dirname, resolve } from 'node:path';
import { TurnoutError } from '../errors.js';
import type { ExpertBackend } from '../experts/backend.js';
import type { LanePlan } from '../experts/placement.js';
import { checkUpdate, type ExpertUpdate, ProcessesBackend } from '../experts/processes.js';
import { checkSummed } from '../experts/versions.js';
import type { Manifest } from './manifest.js';
import { readOnnx, readOnnxBytes } from './onnx.js';

/** The files of an expert's new version, with their SHA-256, and which of its layer it is: a routed one or a shared one. */
export type ExpertVersion = Omit<ExpertUpdate, 'expert'> &
  (
    | { readonly expert: number; readonly shared?: never }
    | { readonly shared: number; readonly expert?: never }
  );

/** What changes in one layer. */
export interface LayerUpdate {
  readonly placement?: readonly LanePlan[];
  readonly experts?: readonly ExpertVersion[];
}

/** What changes in a model. */
export interface ModelUpdate {
  readonly placement?: readonly LanePlan[];
  readonly experts?: readonly (ExpertVersion & { readonly layer: number })[];
}

/** Where the experts of a layer stand in a backend: `experts` routed ones from `first` on, then `shared` ones. */
interface LayerExperts {
  readonly first: number;
  readonly experts: number;
  readonly shared: number;
}

export function layerExperts({ layers }: Manifest): LayerExperts[] {
  let next = 0;
  return layers.map(({ experts, shared = [] }) => {
    const first = next;
    next += experts.length + shared.length;
    return { first, experts: experts.length, shared: shared.length };
  });
}

/** Hands an update to the backend in its own numbers, once all that the new versions read is known to be summed. */
export async function updateBackend(
  backend: ExpertBackend,
  update: ModelUpdate,
  layers: readonly LayerExperts[],
): Promise<void> {
  const { placement, experts = [] } = checkUpdate(update);
  if (!(backend instanceof ProcessesBackend)) {
    const message = `update: expected the backend processes, got ${backend.kind}; it alone changes while calls go on`;
    throw new TurnoutError('TURNOUT_OPTIONS_INVALID', message, { backend: backend.kind });
  }
  const updates: ExpertUpdate[] = [];
  for (const [i, version] of experts.entries()) {
    const where = `experts[${i}]`;
    const expert = numberOf(version, layers, where);
    if (updates.some((other) => other.expert === expert))
      throw invalid(`${where}: named twice in one update`);
    updates.push(await summedFiles({ ...version, expert }, where));
  }
  await backend.update({ experts: updates, ...(placement && { placement }) });
}

/** The number in the backend. Throws TURNOUT_OPTIONS_INVALID. */
function numberOf(
  { layer, expert, shared }: ExpertVersion & { readonly layer: number },
  layers: readonly LayerExperts[],
  where: string,
): number {
  const own = layers[layer];
  if (!own) throw invalid(`${where}.layer: expected 0 to ${layers.length - 1}, got ${layer}`);
  if ((expert === undefined) === (shared === undefined)) {
    throw invalid(
      `${where}: expected either expert or shared, got ${expert === undefined ? 'none' : 'both'}`,
    );
  }
  const [kind, index, count] =
    expert === undefined ? ['shared', shared!, own.shared] : ['expert', expert, own.experts];
  if (!Number.isInteger(index) || index < 0 || index >= count) {
    const range = count === 0 ? 'none in this layer' : `0 to ${count - 1}`;
    throw invalid(`${where}.${kind}: expected ${range}, got ${index}`);
  }
  return own.first + (expert === undefined ? own.experts : 0) + index;
}

/**
 * The update with absolute paths, once the files that it sums are all that the graph reads: weights in a file that is
 * not listed would come in unchecked. The graph looked at is the one that was summed, whatever becomes of the file.
 */
async function summedFiles(update: ExpertUpdate, where: string): Promise<ExpertUpdate> {
  for (const file of [update, ...(update.data ?? [])]) checkSummed(file, where);
  const path = resolve(update.path);
  const data = (update.data ?? []).map((file) => ({ ...file, path: resolve(file.path) }));
  const bytes = await readOnnxBytes(path);
  const got = createHash('sha256').update(bytes).digest('hex');
  if (got !== update.sha256.toLowerCase()) {
    const message = `${path}: expected sha256 ${update.sha256}, got ${got}`;
    throw new TurnoutError('TURNOUT_EXPERT_CHANGED', message, { file: path, expected: update.sha256, got });
  }
  const read = readOnnx(bytes, path).initializers.flatMap(({ external }) =>
    external ? [resolve(dirname(path), external.location)] : [],
  );
  const listed = new Set(data.map((file) => file.path));
  const missing = read.find((file) => !listed.has(file));
  if (missing) throw invalid(`${where}.data: expected ${missing}, which ${path} reads, with its sha256`);
  const stray = [...listed].find((file) => !read.includes(file));
  if (stray) throw invalid(`${where}.data: ${stray} is not read by ${path}`);
  return { ...update, path, data };
}

function invalid(message: string): TurnoutError {
  return new TurnoutError('TURNOUT_OPTIONS_INVALID', message);
}
