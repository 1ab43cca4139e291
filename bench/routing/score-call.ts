import type { PlainTensor } from '../../src/experts/session.js';
import { BlockPool, BlockTable, pagedView } from '../../src/model/cache.js';
import type { GraphStepEntry, MoeStepEntry } from '../../src/model/manifest.js';
import type { Program } from '../../src/model/program.js';
import { logSumExp } from '../../src/model/sampler.js';
import { initialState, int64, joinRows, pagedFeeds, sliceRows } from '../../src/model/step-tensors.js';
import { type Matrix, matrix, row } from '../../src/tensor.js';
import type { CallRun, LayerRun, Stage } from './source.js';

/** One window of a text: its tokens, and the byte that each foretells. */
export interface Window {
  readonly domain: string;
  /** Keys the random numbers of its tokens. */
  readonly request: number;
  /** [T] */
  readonly ids: Int32Array;
  /** [T] */
  readonly targets: Uint8Array;
}

/** Windows that pass the layers together, and what no rule changes of it. */
export interface TextCall {
  readonly windows: readonly Window[];
  prefix?: Prefix;
}

/** The tensors before the first MoE layer. Each run of the call counts the milliseconds that they took. */
interface Prefix {
  readonly tensors: ReadonlyMap<string, PlainTensor>;
  readonly ms: number;
}

interface Span {
  readonly start: number;
  readonly length: number;
}

/**
 * Passes the windows of a call through the model as whole sequences without a past: attention runs for each on its own,
 * every MoE layer takes the rows of all of them, so that those of a call compete under scope `call`. The engine, which
 * this stands beside, takes prompts one at a time.
 */
export async function scoreCall(program: Program, call: TextCall, signal?: AbortSignal): Promise<CallRun> {
  const walk = new Walk(program, call.windows, signal);
  const { steps } = program.manifest.program;
  const first = steps.findIndex(({ kind }) => kind === 'moe');
  if (call.prefix) walk.take(call.prefix);
  for (const [index, step] of steps.entries()) {
    if (step.kind === 'moe') await walk.moe(step);
    else if (index > first || !call.prefix) await walk.graph(step);
    if (index === first - 1) call.prefix ??= walk.prefix();
  }
  return walk.result();
}

/** Computes the prefix of a call again: what the first run took is no time to tell. */
export async function warmCall(program: Program, call: TextCall): Promise<void> {
  await scoreCall(program, call);
  delete call.prefix;
  await scoreCall(program, call);
}

class Walk {
  readonly #program: Program;
  readonly #windows: readonly Window[];
  readonly #signal: AbortSignal | undefined;
  readonly #spans: readonly Span[];
  readonly #tensors = new Map<string, PlainTensor>();
  readonly #layers: LayerRun[] = [];
  #trunkMs = 0;

  constructor(program: Program, windows: readonly Window[], signal?: AbortSignal) {
    this.#program = program;
    this.#windows = windows;
    this.#signal = signal;
    let start = 0;
    this.#spans = windows.map(({ ids: { length } }) => {
      start += length;
      return { start: start - length, length };
    });
    const { ids, positions, select } = program.manifest.program.inputs;
    const all = windows.flatMap((window) => [...window.ids]);
    const places = windows.flatMap((window) => [...window.ids.keys()]);
    this.#tensors.set(ids, int64(BigInt64Array.from(all, BigInt), [all.length]));
    this.#tensors.set(positions, int64(BigInt64Array.from(places, BigInt), [1, all.length]));
    this.#tensors.set(select, counting(all.length));
  }

  take({ tensors, ms }: Prefix): void {
    for (const [name, tensor] of tensors) this.#tensors.set(name, tensor);
    this.#trunkMs += ms;
  }

  prefix(): Prefix {
    return { tensors: new Map(this.#tensors), ms: this.#trunkMs };
  }

  async moe({ layer: index, input, output }: MoeStepEntry): Promise<void> {
    const layer = this.#program.layers[index]!;
    const { gate } = this.#program.manifest.layers[index]!;
    const given = {
      tokenIds: Int32Array.from(this.#windows.flatMap(({ ids }) => [...ids])),
      sequences: this.#windows.map(({ ids, request }) => ({ length: ids.length, request })),
    };
    const { y, routing, times } = await layer.forward(this.#matrix(input), {
      ...given,
      ...(gate && 'logits' in gate && { logits: this.#matrix(gate.logits) }),
      ...(this.#signal && { signal: this.#signal }),
    });
    this.#tensors.set(output, { type: 'float32', dims: [y.rows, y.cols], data: y.data });
    const stages = Object.fromEntries(
      Object.entries(times).map(([key, ms]) => [key.slice(0, -2) as Stage, ms]),
    );
    this.#layers[index] = { routing, input: { ...given, layer: index }, stages };
  }

  async graph(step: GraphStepEntry): Promise<void> {
    const from = performance.now();
    const session = this.#program.sessions.get(step.model)!;
    const whole = step.domain === 'rows' && step.state === undefined;
    const spans = whole ? [{ start: 0, length: this.#rows() }] : this.#spans;
    const parts: Record<string, PlainTensor>[] = [];
    for (const span of spans) parts.push(await session.run(this.#feeds(step, span)));
    for (const [port, name] of Object.entries(step.outputs)) {
      const all = parts.map((part) => part[port]!);
      this.#tensors.set(name, all.length === 1 ? all[0]! : joinRows(all));
    }
    this.#trunkMs += performance.now() - from;
  }

  result(): CallRun {
    const logits = this.#matrix(this.#program.manifest.program.outputs.logits);
    const sequences = this.#windows.map(({ domain, targets }, w) => {
      const { start } = this.#spans[w]!;
      let nats = 0;
      for (const [i, target] of targets.entries()) {
        const values = row(logits, start + i);
        nats += logSumExp(values) - values[target]!;
      }
      return { domain, tokens: targets.length, bits: nats / Math.LN2 };
    });
    return { sequences, layers: this.#layers, trunkMs: this.#trunkMs };
  }

  #rows(): number {
    return this.#spans.reduce((sum, { length }) => sum + length, 0);
  }

  /** What a step takes of the rows of one span, and a state as it is before the first token. */
  #feeds(step: GraphStepEntry, span: Span): Record<string, PlainTensor> {
    const { inputs, states } = this.#program.manifest.program;
    const feeds = Object.fromEntries(
      Object.entries(step.inputs).map(([port, name]) => [
        port,
        name === inputs.select ? counting(span.length) : sliceRows(this.#tensors.get(name)!, span),
      ]),
    );
    const state = states.find(({ name }) => name === step.state);
    if (state?.kind === 'replace') feeds[state.input] = initialState(state);
    if (state?.kind === 'paged') {
      const table = new BlockTable(state.block, 0);
      const view = pagedView(table, [], { blocks: [], cached: 0, length: span.length });
      Object.assign(feeds, pagedFeeds(new BlockPool(state), { table, view }));
    }
    return feeds;
  }

  #matrix(name: string): Matrix {
    const { data, dims } = this.#tensors.get(name)!;
    return matrix(data as Float32Array, Number(dims[0]), Number(dims[1]));
  }
}

/** 0 .. n - 1 as int64 [n]. */
function counting(n: number): PlainTensor {
  return int64(
    BigInt64Array.from({ length: n }, (_, i) => BigInt(i)),
    [n],
  );
}
