import { propagation, trace } from '@opentelemetry/api';
import { W3CTraceContextPropagator } from '@opentelemetry/core';
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  type ReadableSpan,
  SimpleSpanProcessor,
} from '@opentelemetry/sdk-trace-base';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Server, serve } from '#turnout/server/serve.js';
import { BABEL } from '../support/babel.js';

const exporter = new InMemorySpanExporter();
let server: Server;

beforeAll(async () => {
  trace.setGlobalTracerProvider(
    new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }),
  );
  propagation.setGlobalPropagator(new W3CTraceContextPropagator());
  server = await serve(BABEL, { backend: 'inline', server: { port: 0 } });
});
afterAll(async () => {
  await server.close();
  trace.disable();
  propagation.disable();
});

const complete = (body: object, headers: Record<string, string> = {}) =>
  fetch(`${server.url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  }).then((response) => response.text());

const parentOf = (span: ReadableSpan, all: readonly ReadableSpan[]) =>
  all.find((other) => other.spanContext().spanId === span.parentSpanContext?.spanId)?.name;

it('spans of a request follow its tokens through the stages, below the trace of the caller', async () => {
  exporter.reset();
  const traceId = '0af7651916cd43dd8448eb211c80319c';
  const traceparent = `00-${traceId}-b7ad6b7169203331-01`;
  await complete({ prompt: 'In the', max_tokens: 3, ignore_eos: true, stream: true }, { traceparent });
  const spans = exporter.getFinishedSpans();
  expect(new Set(spans.map((span) => span.spanContext().traceId))).toEqual(new Set([traceId]));
  const count = (name: string) => spans.filter((span) => span.name === `turnout.${name}`).length;
  expect([count('generate'), count('step'), count('layer')]).toEqual([1, 3, 12]);
  for (const stage of ['gate', 'route', 'dispatch', 'transport', 'compute', 'combine']) {
    expect(count(stage), stage).toBe(12);
  }
  for (const span of spans) {
    const parent = { 'turnout.step': 'turnout.generate', 'turnout.layer': 'turnout.step' }[span.name];
    const expected = span.name === 'turnout.generate' ? undefined : (parent ?? 'turnout.layer');
    expect(parentOf(span, spans), span.name).toBe(expected);
  }
  const [generate] = spans.filter(({ name }) => name === 'turnout.generate');
  expect(generate!.attributes).toMatchObject({
    'gen_ai.request.model': 'babel',
    'gen_ai.usage.input_tokens': 7,
    'gen_ai.usage.output_tokens': 3,
  });
  const within = (span: ReadableSpan) => span.startTime[0] * 1e3 + span.startTime[1] / 1e6;
  for (const span of spans) expect(within(span)).toBeGreaterThanOrEqual(within(generate!) - 2);
});

it('a request that fails ends its span with the code alone', async () => {
  exporter.reset();
  await complete({ prompt: [999], max_tokens: 3 });
  const [span] = exporter.getFinishedSpans();
  expect(span).toMatchObject({ name: 'turnout.generate', status: { code: 2 } });
  expect(span!.attributes).toMatchObject({ 'error.type': 'TURNOUT_INPUT_INVALID' });
  expect(JSON.stringify(span!.attributes)).not.toContain('999');
});
