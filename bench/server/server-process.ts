import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { BackendOptions } from '../../src/model/open.js';
import type { ServerOptions } from '../../src/server/options.js';
import { type Server, serve } from '../../src/server/serve.js';
import { answerAsks } from './child.js';

/* The server in a process of its own, as `turnout serve` has it, which also tells how long its event loop was held up. */

/** Milliseconds between two looks; part of every delay that is told. */
const RESOLUTION_MS = 1;

const delays = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
let server: Server | undefined;

export interface DelayFigure {
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

interface OpenAsk {
  readonly folder: string;
  readonly model: BackendOptions;
  readonly server: ServerOptions;
}

const answers = {
  /** -> the server's address. */
  async open({ folder, model, server: options }: OpenAsk): Promise<string> {
    server = await serve(folder, { ...model, server: { ...options, port: 0 } });
    delays.enable();
    return server.url;
  },

  /** Delays of the main thread's event loop since they were last asked for. */
  async delays(): Promise<DelayFigure> {
    const ms = (nanoseconds: number) => nanoseconds / 1e6;
    const figure = {
      p50Ms: ms(delays.percentile(50)),
      p99Ms: ms(delays.percentile(99)),
      maxMs: ms(delays.max),
    };
    delays.reset();
    return figure;
  },

  /** Rows that the engine has passed. */
  async rows(): Promise<number> {
    return (await server!.engine.snapshot()).rows;
  },

  /** Bytes of the JavaScript heap of the main thread after a collection, where the process can be told to collect. */
  async heap(): Promise<{ readonly usedBytes: number; readonly collected: boolean }> {
    globalThis.gc?.();
    return { usedBytes: process.memoryUsage().heapUsed, collected: globalThis.gc !== undefined };
  },
};
export type ServerProcess = typeof answers;

answerAsks(answers, async () => server?.close());
