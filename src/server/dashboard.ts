import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type {} from '@fastify/swagger';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';

interface Asset {
  readonly type: string;
  readonly etag: string;
  readonly body: Buffer;
}

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.js': 'text/javascript; charset=utf-8',
};

/** Scripts and styles from this server alone, none inline: the page shows prompts, which are hostile text. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

const COMPILED = fileURLToPath(new URL('dashboard/', import.meta.url));
const WRITTEN = fileURLToPath(new URL('../../../src/server/dashboard/', import.meta.url));

/**
 * The dashboard: `/` and `/assets/*`. All files are read at start into one table, so that no path from a client reaches
 * the disk. Names carry no version, so browsers ask each time and get 304.
 */
export async function dashboard(app: FastifyInstance): Promise<void> {
  const assets = await readAssets();
  const page = await readAsset(join(WRITTEN, 'index.html'));
  // The page itself tells nothing; it asks for the key.
  const options = { schema: { hide: true }, config: { open: true } };
  app.get('/', options, (request, reply) => send(page, request, reply));
  app.get<{ Params: { name: string } }>('/assets/:name', options, (request, reply) => {
    const asset = assets.get(request.params.name);
    return asset ? send(asset, request, reply) : reply.callNotFound();
  });
}

function send(asset: Asset, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  reply
    .header('etag', asset.etag)
    .header('cache-control', 'no-cache')
    .header('content-security-policy', POLICY)
    .header('x-content-type-options', 'nosniff')
    .header('referrer-policy', 'no-referrer');
  const known = request.headers['if-none-match']?.split(',').map((tag) => tag.trim());
  if (known?.includes(asset.etag)) return reply.code(304).send();
  return reply.type(asset.type).send(asset.body);
}

/** Name under /assets -> file. */
async function readAssets(): Promise<ReadonlyMap<string, Asset>> {
  const uplot = dirname(createRequire(import.meta.url).resolve('uplot'));
  const scripts = (await readdir(COMPILED)).filter((name) => name.endsWith('.js'));
  const files: readonly (readonly [name: string, path: string])[] = [
    ...scripts.map((name) => [name, join(COMPILED, name)] as const),
    ['style.css', join(WRITTEN, 'style.css')],
    ['icon.svg', join(WRITTEN, 'icon.svg')],
    ['uplot.js', join(uplot, 'uPlot.esm.js')],
    ['uplot.css', join(uplot, 'uPlot.min.css')],
  ];
  return new Map(
    await Promise.all(files.map(async ([name, path]) => [name, await readAsset(path)] as const)),
  );
}

async function readAsset(path: string): Promise<Asset> {
  const body = await readFile(path);
  const digest = createHash('sha256').update(body).digest('base64url').slice(0, 22);
  return { type: TYPES[extname(path)]!, etag: `"${digest}"`, body };
}
