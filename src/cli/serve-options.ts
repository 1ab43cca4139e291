import { TurnoutError } from '../errors.js';
import type { ServerOptions } from '../server/options.js';
import { readSource } from './support.js';

/** The flags of `turnout serve` about the server itself, as commander gives them. */
export interface ServerFlags {
  readonly host?: string;
  readonly port?: number;
  readonly apiKeyFile?: string;
  readonly publicWithoutKey?: true;
  readonly allowedHost?: readonly string[];
  readonly corsOrigin?: readonly string[];
  readonly rateLimit?: number;
  readonly running?: number;
  readonly queue?: number;
  readonly queueDelay?: number;
  readonly timeout?: number;
  readonly grace?: number;
  readonly jsonLimit?: number;
  readonly bodyLimit?: number;
  readonly log?: true;
}

/** Throws TURNOUT_FILE_MISSING, or TURNOUT_OPTIONS_INVALID for a file without keys. */
export async function serverOptions(flags: ServerFlags): Promise<ServerOptions> {
  const { host, port, rateLimit, running, queue, jsonLimit, bodyLimit } = flags;
  const all = {
    ...{ host, port, rateLimit, running, queue, jsonLimit, bodyLimit },
    apiKeys: await keysOf(flags.apiKeyFile),
    publicWithoutKey: flags.publicWithoutKey,
    allowedHosts: flags.allowedHost,
    corsOrigins: flags.corsOrigin,
    queueDelayMs: flags.queueDelay,
    requestTimeoutMs: flags.timeout,
    graceMs: flags.grace,
    log: flags.log,
  };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
}

async function keysOf(file: string | undefined): Promise<string[] | undefined> {
  const { TURNOUT_API_KEY: key } = process.env;
  if (file === undefined) return key === undefined || key === '' ? undefined : [key];
  return readKeys(file);
}

async function readKeys(file: string): Promise<string[]> {
  const lines = (await readSource(file)).split('\n').map((line) => line.trim());
  const keys = lines.filter((line) => line !== '' && !line.startsWith('#'));
  if (keys.length > 0) return keys;
  throw new TurnoutError('TURNOUT_OPTIONS_INVALID', `--api-key-file: ${file} holds no key`);
}
