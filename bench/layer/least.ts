import type { ExpertBatch } from '../../src/experts/backend.js';
import { everywhere, spread } from '../../src/experts/placement.js';
import { copyValues } from '../../src/experts/shared-call.js';
import type { Gate } from '../../src/gate.js';
import { combine } from '../../src/router/combine.js';
import { planDispatch } from '../../src/router/plan.js';
import type { DispatchPlan, Router } from '../../src/router/routing.js';
import { shareMemory } from '../../src/shared-memory.js';
import { type Matrix, zeros } from '../../src/tensor.js';
import type { MovedCall } from '../peers/bare-experts.js';
import type { ProcessProgram } from '../peers/bare-processes.js';
import type { LayerCase, LayerSource } from './source.js';

/**
 * The least that a layer does, made by hand for one call: the gate; the rule, and the plan that follows from it; the
 * expert calls, by lanes that gather their rows from memory and give the outputs back there; and the sum of those. Which
 * calls there will be, and who makes them, is known before. The event loop of its caller goes on meanwhile, as
 * everybody's must.
 */
export class LeastLayer {
  /** [A, H] outputs, in plan order, in shared memory. */
  readonly y: Float32Array;
  /** The expert calls, for lanes that are threads. */
  readonly calls: readonly MovedCall[];
  readonly #call: LayerCase;
  readonly #gate: Gate;
  readonly #router: Router;
  readonly #plan: DispatchPlan;
  /** [T, H] where lanes that are threads gather rows from. */
  readonly #from: Matrix;
  readonly #outputs: readonly Float32Array[];
  readonly #into: Matrix;

  /** For the rule of the fused operators; `batches` are those of the call. Does not own the gate. */
  constructor(
    call: LayerCase,
    { router, shape }: LayerSource,
    { gate, batches }: { readonly gate: Gate; readonly batches: readonly ExpertBatch[] },
  ) {
    const { hidden, experts } = shape;
    this.#call = call;
    this.#gate = gate;
    this.#router = router;
    this.#plan = planDispatch(router.route({ logits: call.logits }));
    const { offsets } = this.#plan;
    const count = offsets[experts]! * hidden;
    const y = new Float32Array(shareMemory(count * Float32Array.BYTES_PER_ELEMENT), 0, count);
    this.y = y;
    this.#outputs = Array.from({ length: experts }, (_, e) =>
      y.subarray(offsets[e]! * hidden, offsets[e + 1]! * hidden),
    );
    this.#from = { ...call.x, data: sharedFloats(call.x.data.length) };
    this.calls = batches.map(({ expert, rows }) => {
      return { expert, from: this.#from, rows, y: this.#outputs[expert]! };
    });
    this.#into = zeros(call.tokens, hidden);
  }

  /** The same calls for so many processes, split as the backends split them. */
  programs(processes: number): ProcessProgram[] {
    const counts = this.calls.map(({ expert, rows }) => ({ expert, rows: rows.length }));
    const { offsets, experts } = this.#plan;
    return spread(counts, everywhere(experts, processes)).map((pieces) => ({
      rows: this.#call.tokens,
      calls: pieces.map(({ batch, start, rows: count }) => {
        const { expert, rows } = this.calls[batch]!;
        return { expert, rows: [...rows.subarray(start, start + count)], first: offsets[expert]! + start };
      }),
    }));
  }

  /** Writes x to where lanes that are threads gather it: the caller's memory is not theirs. */
  handOver(): void {
    copyValues(this.#call.x.data, this.#from.data);
  }

  /** y [T, H], where `compute` hands x over and has the calls made. */
  async forward(compute: () => Promise<void>): Promise<Float32Array> {
    const { logits } = await this.#gate.score(this.#call.x);
    const plan = planDispatch(this.#router.route({ logits }));
    await compute();
    return combine(plan, this.#outputs, this.#into.cols, { into: this.#into }).data;
  }
}

function sharedFloats(count: number): Float32Array {
  return new Float32Array(new SharedArrayBuffer(count * Float32Array.BYTES_PER_ELEMENT));
}
