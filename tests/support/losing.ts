import type { ExpertBackend } from '#turnout/experts/backend.js';

/** The `run` of `backend` as one does it that was opened to drop and cannot have the experts `gone`: it reports their batches. */
export function losing(backend: ExpertBackend, gone: readonly number[]): ExpertBackend['run'] {
  const run = backend.run.bind(backend);
  return async (batches, options) => {
    const lost = [...batches.keys()].filter((i) => gone.includes(batches[i]!.expert));
    const answered = await run(
      batches.filter((_, i) => !lost.includes(i)),
      options,
    );
    const next = answered.outputs.values();
    const outputs = batches.map((_, i) => (lost.includes(i) ? new Float32Array(0) : next.next().value!));
    return lost.length === 0 ? answered : { ...answered, outputs, lost };
  };
}

/** `backend` without the experts `gone`; closing it closes nothing. */
export function withoutExperts(backend: ExpertBackend, gone: readonly number[]): ExpertBackend {
  const { kind, experts, hidden, residency } = backend;
  const close = async () => {};
  return {
    ...{ kind, experts, hidden, residency, close },
    run: losing(backend, gone),
    lanes: () => backend.lanes(),
    [Symbol.asyncDispose]: close,
  };
}
