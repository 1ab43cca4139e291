import { isIP } from 'node:net';
import { TurnoutError } from '../errors.js';

/** How a server answers; see docs/http.md. */
export interface ServerOptions {
  /** Address to listen on; 127.0.0.1 where left out. Others than loopback need `apiKeys`, or `publicWithoutKey`. */
  readonly host?: string;
  /** 8080 where left out; 0 takes a free one. */
  readonly port?: number;
  /** Keys that open the endpoints (`Authorization: Bearer KEY`), each at least 16 characters; none where left out. */
  readonly apiKeys?: readonly string[];
  /** Lets everybody who can reach a public address in. */
  readonly publicWithoutKey?: boolean;
  /** Names under which browsers may reach the server, beside the address that it listens on. */
  readonly allowedHosts?: readonly string[];
  /** Sites whose pages may call the endpoints (CORS); none where left out. */
  readonly corsOrigins?: readonly string[];
  /** Requests a minute from one key or address, without health, /docs and the dashboard's files; no limit where left out. */
  readonly rateLimit?: number;
  /** Sequences that run at once; 64 where left out. */
  readonly running?: number;
  /** Requests that wait for a place; 128 where left out. */
  readonly queue?: number;
  /** Milliseconds that a request may wait for a place; 10,000 where left out. */
  readonly queueDelayMs?: number;
  /** Milliseconds for a request where it names none itself, its wait included, and the most that it may name; 300,000 where left out. */
  readonly requestTimeoutMs?: number;
  /** Milliseconds for a client to send a request whole, a third of it for the headers; 60,000 where left out. */
  readonly readMs?: number;
  /** Milliseconds after which a client that takes nothing of its answer is cut off; 30,000 where left out. */
  readonly stallMs?: number;
  /** Milliseconds that running requests get when the server is told to stop; 30,000 where left out. */
  readonly graceMs?: number;
  /** Bytes of a body in JSON; 1 MiB where left out: parsing holds up the thread that answers. */
  readonly jsonLimit?: number;
  /** Bytes of a body with binary tensors; 32 MiB where left out. */
  readonly bodyLimit?: number;
  /** Writes a line of JSON to standard error for each request; `false` where left out. */
  readonly log?: boolean;
}

export type CheckedOptions = Required<ServerOptions>;

const DEFAULTS: CheckedOptions = {
  host: '127.0.0.1',
  port: 8080,
  apiKeys: [],
  publicWithoutKey: false,
  allowedHosts: [],
  corsOrigins: [],
  rateLimit: Number.POSITIVE_INFINITY,
  running: 64,
  queue: 128,
  queueDelayMs: 10_000,
  requestTimeoutMs: 300_000,
  readMs: 60_000,
  stallMs: 30_000,
  graceMs: 30_000,
  jsonLimit: 1024 * 1024,
  bodyLimit: 32 * 1024 * 1024,
  log: false,
};

/** Shorter keys can be guessed. */
const MIN_KEY = 16;
/** Longer timers cannot be had in Node. */
const MAX_MS = 2 ** 31 - 1;

/** The options with defaults. Throws TURNOUT_OPTIONS_INVALID. */
export function checkServerOptions(options: ServerOptions): CheckedOptions {
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  const all: CheckedOptions = { ...DEFAULTS, ...given };
  whole('port', all.port, 0, 65_535);
  whole('running', all.running, 1, 65_536);
  whole('queue', all.queue, 0, 1_000_000);
  for (const name of ['queueDelayMs', 'requestTimeoutMs', 'graceMs'] as const)
    whole(name, all[name], 0, MAX_MS);
  for (const name of ['readMs', 'stallMs'] as const) whole(name, all[name], 100, MAX_MS);
  for (const name of ['jsonLimit', 'bodyLimit'] as const) whole(name, all[name], 1024, 2 ** 31);
  if (all.rateLimit !== Number.POSITIVE_INFINITY) whole('rateLimit', all.rateLimit, 1, 1_000_000_000);
  checkKeys(all.apiKeys);
  checkOrigins(all.corsOrigins);
  if (!isLoopback(all.host) && all.apiKeys.length === 0 && !all.publicWithoutKey) {
    throw invalid(
      `host: ${all.host} can be reached from other machines, and no API key is set; set one, or say publicWithoutKey`,
    );
  }
  return all;
}

function checkKeys(keys: readonly string[]): void {
  if (keys.every((key) => key.length >= MIN_KEY && !/[^\x21-\x7e]/.test(key))) return;
  throw invalid(`apiKeys: expected keys of at least ${MIN_KEY} visible ASCII characters`);
}

/** Browsers send a site as its origin alone; with another text here none would ever be let in. */
function checkOrigins(origins: readonly string[]): void {
  const wrong = origins.find((origin) => !URL.canParse(origin) || new URL(origin).origin !== origin);
  if (wrong === undefined) return;
  throw invalid(`corsOrigins: expected origins such as https://example.org, got ${JSON.stringify(wrong)}`);
}

export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));
}

function whole(name: string, value: number, least: number, most: number): void {
  if (Number.isInteger(value) && value >= least && value <= most) return;
  throw invalid(`${name}: expected a whole number from ${least} to ${most}, got ${value}`);
}

function invalid(message: string): TurnoutError {
  return new TurnoutError('TURNOUT_OPTIONS_INVALID', message);
}
