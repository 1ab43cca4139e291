import {
  type Attributes,
  type Context,
  context,
  propagation,
  type Span,
  SpanKind,
  SpanStatusCode,
  trace,
} from '@opentelemetry/api';
import { TurnoutError } from '../errors.js';
import type { Waterfall, WaterfallLayer, WaterfallStep } from '../model/waterfall.js';
import type { StageTimes } from '../moe-layer.js';
import type { FinishedReason } from './metrics.js';

/*
 * OpenTelemetry through its API alone: spans go where the SDK sends them that the user registered, and come to nothing
 * where there is none.
 */

export type { Span };

/** The SDK's batch processor queues 2,048 spans where nothing else is set, and drops those above. */
export const MAX_SPANS = 2000;

const STAGES = ['gate', 'route', 'dispatch', 'transport', 'compute', 'combine'] as const;

const tracer = trace.getTracer('turnout');

export interface TracedRequest {
  /** Of the request; `traceparent` among them makes the span part of the caller's trace. */
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly operation: 'text_completion' | 'chat';
  /** The name that the server knows. */
  readonly model: string;
  /** Milliseconds since 1970 at its arrival; now where left out. */
  readonly startedAt?: number;
}

export interface TracedEnd {
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly reason: FinishedReason;
  /** What ended it, where it failed. */
  readonly error?: unknown;
}

/** The span `turnout.generate` of one request. Ask `isRecording()` before gathering a waterfall: it is false where nobody listens. */
export function startGeneration({ headers, operation, model, startedAt }: TracedRequest): Span {
  const parent = propagation.extract(context.active(), headers);
  const attributes = {
    'gen_ai.operation.name': operation,
    'gen_ai.provider.name': 'turnout',
    'gen_ai.request.model': model,
  };
  const start = startedAt === undefined ? {} : { startTime: startedAt };
  return tracer.startSpan('turnout.generate', { kind: SpanKind.SERVER, attributes, ...start }, parent);
}

/** Ends the span of a request with its usage. Errors give their code alone: a message may hold text of the prompt. */
export function endGeneration(span: Span, { inputTokens, outputTokens, reason, error }: TracedEnd): void {
  span.setAttributes({
    'gen_ai.usage.input_tokens': inputTokens,
    'gen_ai.usage.output_tokens': outputTokens,
    'gen_ai.response.finish_reasons': [reason],
  });
  if (error !== undefined) {
    span.setAttribute('error.type', error instanceof TurnoutError ? error.code : '_OTHER');
    span.setStatus({ code: SpanStatusCode.ERROR });
  }
  span.end();
}

/**
 * Makes the spans of a waterfall below `parent`: `turnout.step`, in it `turnout.layer`, in it the stages one after the
 * other. `startedAt` is the moment that its times count from, in milliseconds since 1970. Steps past MAX_SPANS are left
 * out and counted in `turnout.steps_omitted` of the parent, which must not have ended.
 */
export function traceWaterfall({ steps }: Waterfall, parent: Span, startedAt: number): void {
  if (!parent.isRecording()) return;
  const within = trace.setSpan(context.active(), parent);
  let spans = 0;
  for (const [index, step] of steps.entries()) {
    spans += 1 + step.layers.length * (1 + STAGES.length);
    if (spans > MAX_SPANS) {
      parent.setAttribute('turnout.steps_omitted', steps.length - index);
      return;
    }
    traceStep(step, index, within, startedAt);
  }
}

function traceStep(step: WaterfallStep, index: number, parent: Context, startedAt: number): void {
  const { fromMs, toMs, rows, batchRows, layers } = step;
  const attributes = { 'turnout.step': index, 'turnout.rows': rows, 'turnout.batch_rows': batchRows };
  const within = finished('turnout.step', [startedAt + fromMs, startedAt + toMs], parent, attributes);
  for (const layer of layers) traceLayer(layer, within, startedAt);
}

function traceLayer({ layer, fromMs, stages }: WaterfallLayer, parent: Context, startedAt: number): void {
  const start = startedAt + fromMs;
  const total = STAGES.reduce((sum, stage) => sum + timeOf(stages, stage), 0);
  const within = finished('turnout.layer', [start, start + total], parent, { 'turnout.layer': layer });
  let from = start;
  for (const stage of STAGES) {
    const to = from + timeOf(stages, stage);
    finished(`turnout.${stage}`, [from, to], within);
    from = to;
  }
}

/** A span that is over already -> the context below it. */
function finished(
  name: string,
  [startTime, end]: readonly [number, number],
  parent: Context,
  attributes: Attributes = {},
): Context {
  const span = tracer.startSpan(name, { startTime, attributes }, parent);
  span.end(end);
  return trace.setSpan(parent, span);
}

function timeOf(stages: StageTimes, stage: (typeof STAGES)[number]): number {
  return stages[`${stage}Ms`];
}
