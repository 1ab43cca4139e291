import { TurnoutError } from '../errors.js';
import { sliceRouting } from '../router/slice.js';
import { row } from '../tensor.js';
import { logitsValid, problemOf } from './bad-logits.js';
import { addTimes, type Program, type Span, type StepBatch, type StepResult } from './program.js';
import type { Sequence } from './sequence.js';

/** Moves every sequence of a step on: counters, caches, logits, next token. */
export function advance(program: Program, batch: StepBatch, result: StepResult): void {
  let selected = 0;
  batch.spans.forEach((span, index) => {
    const { sequence, length } = span;
    const first = selected;
    for (let i = 0; i < length; i++) if (wanted(sequence, i, length)) selected++;
    if (sequence.ended) return;
    const bad = badRow(program, result, span);
    if (bad) {
      sequence.fail(bad);
      return;
    }
    keepRouting(sequence, span, index, result);
    addTimes(sequence.times, result.times);
    if (sequence.request.timeline) sequence.timeline.push({ ...result.timeline, rows: length });
    for (const [name, value] of result.replaced.get(sequence) ?? []) sequence.replaced.set(name, value);
    const at = sequence.cached;
    const all = wantsAll(sequence);
    sequence.cached += length;
    if (all) {
      const { cols, data } = result.logits;
      const logits = { rows: length, cols, data: data.slice(first * cols, (first + length) * cols) };
      sequence.emit({ kind: 'logits', first: at, logits });
    }
    if (sequence.pending === 0) next(sequence, row(result.logits, selected - 1));
  });
}

/** Whether the logits of row `i` of a span of `length` rows are needed: all that are asked for, and the last to go on. */
export function wanted(sequence: Sequence, i: number, length: number): boolean {
  return wantsAll(sequence) || (i === length - 1 && length === sequence.pending);
}

/** Whether the logits of all rows of its next step are asked for. */
function wantsAll({ request, cached }: Sequence): boolean {
  return request.logits === 'all' || (request.logits === 'prompt' && cached < request.tokens.length);
}

/** Ends the sequence or gives it its next token. `logits` [vocabulary] are those of its last token. */
function next(sequence: Sequence, logits: Float32Array): void {
  const { maxTokens, sampler, endToken } = sequence.request;
  if (maxTokens === 0 || !sampler) {
    sequence.emit({ kind: 'end', reason: 'scored' });
    return;
  }
  if (!logitsValid(logits)) {
    const position = sequence.cached - 1;
    sequence.fail(
      new TurnoutError('TURNOUT_LOGITS_INVALID', `the model gave NaN or +infinity at position ${position}`, {
        position,
      }),
    );
    return;
  }
  const sampled = sampler(logits, sequence.cached);
  sequence.generated++;
  if (sampled.token === endToken) {
    sequence.emit({ kind: 'end', reason: 'end-token' });
    return;
  }
  sequence.tokens.push(sampled.token);
  sequence.emit({ kind: 'token', ...sampled });
  if (sequence.generated >= maxTokens) sequence.emit({ kind: 'end', reason: 'max-tokens' });
}

function keepRouting(sequence: Sequence, span: Span, index: number, result: StepResult): void {
  result.routings.forEach((routing, layer) => {
    sequence.counters[layer] = routing.states[index];
    if (!sequence.request.record) return;
    sequence.recorded[layer] ??= [];
    sequence.recorded[layer].push(sliceRouting(routing, span.start, span.length, index));
  });
}

/** The error of a sequence with a row that could not be routed, in whichever layer. */
function badRow(
  { layers }: Program,
  { routings }: StepResult,
  { sequence, start, length }: Span,
): TurnoutError | undefined {
  for (const [layer, routing] of routings.entries()) {
    const bad = routing.badRows.find(({ row }) => row >= start && row < start + length);
    if (bad) return problemOf(bad, layers[layer]!, sequence.cached + bad.row - start);
  }
  return undefined;
}
