import { readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import type { FastifyInstance } from 'fastify';
import { TurnoutError } from '../errors.js';
import { EngineThread, type OpenThreadOptions } from '../model/engine-thread.js';
import { Admission } from './admission.js';
import { createApp } from './app.js';
import type { ServerContext } from './context.js';
import { ServerMetrics } from './metrics.js';
import { Observer } from './observed.js';
import { type CheckedOptions, checkServerOptions, type ServerOptions } from './options.js';
import { Recordings } from './recordings.js';
import { fittingPresets } from './routing-trace.js';

/** How often a server that ends looks for connections that have nothing under way. */
const SWEEP_MS = 50;

export interface ServeOptions extends OpenThreadOptions {
  readonly server?: ServerOptions;
}

/** A server that listens. */
export interface Server extends AsyncDisposable {
  /** Where it can be reached, such as `http://127.0.0.1:8080`. */
  readonly url: string;
  readonly engine: EngineThread;
  /** Resolves when the engine has ended by itself, with the reason: the server is of no use any more. */
  readonly failed: Promise<Error>;
  /**
   * Takes no new work, lets running requests end within the grace time and aborts those that have not, then frees
   * everything. Calling it twice is allowed.
   */
  close(): Promise<void>;
}

/**
 * Serves the package in `folder` over HTTP: docs/http.md. The engine computes in a thread of its own; this thread only
 * answers. Throws TURNOUT_OPTIONS_INVALID, also where it cannot listen, and what opening the package throws.
 */
export async function serve(folder: string, { server = {}, ...model }: ServeOptions = {}): Promise<Server> {
  const options = checkServerOptions(server);
  const engine = await EngineThread.open(folder, model);
  const { manifest, layers, cache } = engine.info;
  const { running, queue, queueDelayMs, host, port, graceMs } = options;
  const admission = new Admission({ running, queue, queueDelayMs, blocks: cache.limit });
  const observer = new Observer((limits) => engine.snapshot(limits));
  let listening = false;
  const context: ServerContext = {
    engine,
    admission,
    observer,
    metrics: new ServerMetrics({ snapshot: () => observer.snapshot(), queued: () => admission.waiting }),
    recordings: new Recordings(manifest.name, layers),
    presets: fittingPresets(manifest),
    options,
    version: turnoutVersion(),
    startedAt: Date.now(),
    ready: () => listening && !admission.closed,
  };
  let app: FastifyInstance | undefined;
  try {
    app = await createApp(context);
    await app.listen({ host, port }).catch((error: Error) => {
      throw cannotListen(error, options);
    });
  } catch (error) {
    await Promise.all([app?.close(), engine.close()]);
    throw error;
  }
  listening = true;
  const closing = once(() => closeAll({ app, engine, admission, graceMs }));
  return {
    url: urlOf(app.server.address() as AddressInfo),
    engine,
    failed: engine.ended.then((error) => error ?? new Promise<never>(() => {})),
    close: closing,
    [Symbol.asyncDispose]: closing,
  };
}

interface Open {
  readonly app: FastifyInstance;
  readonly engine: EngineThread;
  readonly admission: Admission;
  readonly graceMs: number;
}

async function closeAll({ app, engine, admission, graceMs }: Open): Promise<void> {
  const grace = timer(graceMs);
  const idle = admission.close();
  // Takes no new connections, and ends those that have nothing under way.
  const closed = app.close();
  // Others stay open behind their answers, for requests that they will not get any more.
  const sweep = setInterval(() => app.server.closeIdleConnections(), SWEEP_MS);
  await Promise.race([Promise.all([idle, closed]), grace.over]);
  clearInterval(sweep);
  grace.end();
  // Whoever is still here has had its time: their calls end when their connections do.
  app.server.closeAllConnections();
  await Promise.all([idle, closed]);
  await engine.close();
}

function timer(ms: number): { over: Promise<void>; end: () => void } {
  let handle: NodeJS.Timeout | undefined;
  const over = new Promise<void>((resolve) => {
    handle = setTimeout(resolve, ms);
  });
  return { over, end: () => clearTimeout(handle) };
}

function once(work: () => Promise<void>): () => Promise<void> {
  let running: Promise<void> | undefined;
  return () => {
    running ??= work();
    return running;
  };
}

/** What Node says, and what to do. */
function cannotListen(error: NodeJS.ErrnoException, { host, port }: CheckedOptions): TurnoutError {
  const reasons: Record<string, string> = {
    EADDRINUSE: 'the port is taken: another server may be running; choose another port, or 0 for a free one',
    EACCES: 'the system keeps this port for itself; choose one above 1023',
    EADDRNOTAVAIL: 'this machine has no such address',
    ENOTFOUND: 'this machine has no such address',
  };
  const reason = reasons[error.code ?? ''] ?? error.message;
  const message = `cannot listen on ${host}, port ${port}: ${reason}`;
  return new TurnoutError('TURNOUT_OPTIONS_INVALID', message, { host, port }, { cause: error });
}

function urlOf({ address, family, port }: AddressInfo): string {
  return `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`;
}

function turnoutVersion(): string {
  const file = new URL('../../../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}
