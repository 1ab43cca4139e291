import { propagation, SpanStatusCode, trace } from '@opentelemetry/api';
import { W3CTraceContextPropagator } from '@opentelemetry/core';
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  type ReadableSpan,
  SimpleSpanProcessor,
} from '@opentelemetry/sdk-trace-base';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TurnoutError } from '#turnout/errors.js';
import type { Waterfall } from '#turnout/model/waterfall.js';
import { endGeneration, MAX_SPANS, startGeneration, traceWaterfall } from '#turnout/server/tracing.js';

const START = 1_790_000_000_000;
const stages = { gateMs: 0.5, routeMs: 0.25, dispatchMs: 1, transportMs: 0, computeMs: 2, combineMs: 0.25 };
const step = (fromMs: number, toMs: number) => ({
  fromMs,
  toMs,
  rows: 1,
  batchRows: 5,
  layers: [
    { layer: 0, fromMs: fromMs + 1, stages },
    { layer: 1, fromMs: fromMs + 6, stages },
  ],
});
const waterfall: Waterfall = { totalMs: 30, steps: [step(2, 14), step(15, 27)] };
const request = { headers: {}, operation: 'text_completion', model: 'babel', startedAt: START } as const;
const usage = { inputTokens: 12, outputTokens: 3, reason: 'stop' } as const;

const exporter = new InMemorySpanExporter();

/** Milliseconds from START. */
const ms = ([seconds, nanos]: readonly [number, number]) =>
  (seconds - START / 1000) * 1000 + Math.round(nanos / 1e3) / 1e3;
const times = (span: ReadableSpan) => [ms(span.startTime), ms(span.endTime)];
const named = (name: string) => exporter.getFinishedSpans().filter((span) => span.name === name);
const below = (parent: ReadableSpan) =>
  exporter
    .getFinishedSpans()
    .filter((span) => span.parentSpanContext?.spanId === parent.spanContext().spanId);

describe('spans without an SDK', () => {
  it('come to nothing', () => {
    const span = startGeneration({
      ...request,
      headers: { traceparent: `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01` },
    });
    expect(span.isRecording()).toBe(false);
    traceWaterfall(waterfall, span, START);
    endGeneration(span, usage);
  });
});

describe('spans with an SDK', () => {
  beforeEach(() => {
    trace.setGlobalTracerProvider(
      new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }),
    );
    propagation.setGlobalPropagator(new W3CTraceContextPropagator());
  });
  afterEach(() => {
    trace.disable();
    propagation.disable();
    exporter.reset();
  });

  it('show a request with the attributes of the GenAI conventions', () => {
    const span = startGeneration(request);
    expect(span.isRecording()).toBe(true);
    endGeneration(span, usage);
    const [generate] = named('turnout.generate');
    expect(ms(generate!.startTime)).toBe(0);
    expect(generate!.parentSpanContext).toBeUndefined();
    expect(generate!.status.code).toBe(SpanStatusCode.UNSET);
    expect(generate!.attributes).toEqual({
      'gen_ai.operation.name': 'text_completion',
      'gen_ai.provider.name': 'turnout',
      'gen_ai.request.model': 'babel',
      'gen_ai.usage.input_tokens': 12,
      'gen_ai.usage.output_tokens': 3,
      'gen_ai.response.finish_reasons': ['stop'],
    });
  });

  it("take the caller's trace from `traceparent`, and begin their own where it is malformed", () => {
    const [traceId, spanId] = ['4bf92f3577b34da6a3ce929d0e0e4736', '00f067aa0ba902b7'];
    for (const traceparent of [`00-${traceId}-${spanId}-01`, '00-zz-zz-01']) {
      endGeneration(startGeneration({ ...request, headers: { traceparent } }), usage);
    }
    const [ours, own] = named('turnout.generate');
    expect(ours!.spanContext().traceId).toBe(traceId);
    expect(ours!.parentSpanContext).toMatchObject({ spanId, isRemote: true });
    expect(own!.spanContext().traceId).not.toBe(traceId);
    expect(own!.parentSpanContext).toBeUndefined();
  });

  it('record nothing of a trace that the caller does not sample', () => {
    const traceparent = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-00`;
    const span = startGeneration({ ...request, headers: { traceparent } });
    expect(span.isRecording()).toBe(false);
    traceWaterfall(waterfall, span, START);
    endGeneration(span, usage);
    expect(exporter.getFinishedSpans()).toEqual([]);
  });

  it('lay out steps, layers and stages at their times', () => {
    const span = startGeneration(request);
    traceWaterfall(waterfall, span, START);
    endGeneration(span, usage);
    const steps = below(named('turnout.generate')[0]!);
    expect(steps.map(({ name }) => name)).toEqual(['turnout.step', 'turnout.step']);
    expect(steps.map(times)).toEqual([
      [2, 14],
      [15, 27],
    ]);
    expect(steps[1]!.attributes).toEqual({ 'turnout.step': 1, 'turnout.rows': 1, 'turnout.batch_rows': 5 });
    const layers = below(steps[0]!);
    expect(layers.map((layer) => [layer.name, layer.attributes['turnout.layer'], ...times(layer)])).toEqual([
      ['turnout.layer', 0, 3, 7],
      ['turnout.layer', 1, 8, 12],
    ]);
    expect(below(layers[1]!).map((stage) => [stage.name, ...times(stage)])).toEqual([
      ['turnout.gate', 8, 8.5],
      ['turnout.route', 8.5, 8.75],
      ['turnout.dispatch', 8.75, 9.75],
      ['turnout.transport', 9.75, 9.75],
      ['turnout.compute', 9.75, 11.75],
      ['turnout.combine', 11.75, 12],
    ]);
    const traces = new Set(exporter.getFinishedSpans().map((one) => one.spanContext().traceId));
    expect(traces.size).toBe(1);
  });

  it('end where a long generation would have more than an exporter takes', () => {
    const many = Array.from({ length: 500 }, (_, i) => step(20 * i, 20 * i + 14));
    const span = startGeneration(request);
    traceWaterfall({ totalMs: 10_000, steps: many }, span, START);
    endGeneration(span, usage);
    const traced = Math.floor(MAX_SPANS / 15);
    expect(named('turnout.step')).toHaveLength(traced);
    expect(exporter.getFinishedSpans()).toHaveLength(15 * traced + 1);
    expect(named('turnout.generate')[0]!.attributes['turnout.steps_omitted']).toBe(500 - traced);
  });

  it.each([
    [new TurnoutError('TURNOUT_ABORTED', 'secret prompt'), 'TURNOUT_ABORTED'],
    [new Error('secret prompt'), '_OTHER'],
  ])('tell an error by its code and never by its message', (error, type) => {
    endGeneration(startGeneration(request), { ...usage, reason: 'error', error });
    const [generate] = named('turnout.generate');
    expect(generate!.status).toEqual({ code: SpanStatusCode.ERROR });
    expect(generate!.attributes['error.type']).toBe(type);
    expect(JSON.stringify([generate!.attributes, generate!.events])).not.toContain('secret');
  });
});
