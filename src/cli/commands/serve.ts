import { Command } from 'commander';
import type { OpenThreadOptions } from '../../model/engine-thread.js';
import { type Server, serve } from '../../server/serve.js';
import { inHugePages } from '../huge-pages.js';
import { addModelFlags, type ModelFlags, modelOptions } from '../model-flags.js';
import { BUNDLED, progressLine } from '../packages.js';
import { type ServerFlags, serverOptions } from '../serve-options.js';
import { EXIT, numberArgument, print } from '../support.js';

interface Flags extends ModelFlags, ServerFlags {
  readonly decodeRows?: number;
  readonly chunkRows?: number;
  readonly cacheBlocks?: number;
}

const EXAMPLES = `
Examples:
  $ turnout serve
  $ turnout serve --backend processes --devices cpu:0,cpu:1 --port 9000
  $ turnout serve --host 0.0.0.0 --api-key-file keys.txt --rate-limit 600
  $ curl localhost:8080/v1/completions -H 'content-type: application/json' -d '{"prompt": "In the beginning"}'

Ctrl-C or SIGTERM ends it: new requests are refused, running ones get the grace time; a second one ends it at once.
Endpoints: docs/http.md, or /docs on the server. TURNOUT_API_KEY is a key too where --api-key-file is left out.`;

/** `turnout serve`: a package over HTTP, with a dashboard. */
export const serveCommand = addModelFlags(new Command('serve'))
  .argument('[dir]', 'folder of the package', BUNDLED)
  .description('Serve a package over HTTP: dashboard, OpenAI and Open Inference Protocol endpoints, metrics.')
  .option('--host <address>', 'address to listen on (default 127.0.0.1); others than loopback need a key')
  .option('--port <number>', 'port to listen on (default 8080); 0 takes a free one', numberArgument)
  .option('--api-key-file <file>', 'file of keys that open the endpoints, one a line')
  .option('--public-without-key', 'let everybody in who can reach a public address')
  .option('--allowed-host <names...>', 'names under which browsers may reach the server, beside its address')
  .option('--cors-origin <origins...>', 'sites whose pages may call the endpoints')
  .option('--rate-limit <number>', 'requests a minute from one key or address', numberArgument)
  .option('--running <number>', 'sequences that run at once (default 64)', numberArgument)
  .option('--queue <number>', 'requests that wait for a place (default 128)', numberArgument)
  .option('--queue-delay <ms>', 'how long a request may wait for a place (default 10000)', numberArgument)
  .option('--timeout <ms>', 'time limit of a request (default 300000)', numberArgument)
  .option('--grace <ms>', 'time for running requests at the end (default 30000)', numberArgument)
  .option('--decode-rows <number>', 'sequences that decode in one step (default 64)', numberArgument)
  .option('--chunk-rows <number>', 'rows of one prompt in one step beside them (default 128)', numberArgument)
  .option('--cache-blocks <number>', 'cache blocks of all sequences together (default 4096)', numberArgument)
  .option('--json-limit <bytes>', 'of a body in JSON (default 1 MiB)', numberArgument)
  .option('--body-limit <bytes>', 'of a body with binary tensors (default 32 MiB)', numberArgument)
  .option('--log', 'a line of JSON for each request, on standard error')
  .addHelpText('after', EXAMPLES)
  .hook('preAction', (command) => inHugePages(command.opts<Flags>().residency))
  .action(run);

async function run(folder: string, flags: Flags): Promise<void> {
  const ending = endSignal();
  const server = await open(folder, flags);
  await print(
    `turnout serves ${server.engine.info.manifest.name} on ${server.url} (dashboard), ${server.url}/docs (endpoints)`,
  );
  const failed = await Promise.race([ending.then(() => undefined), server.failed]);
  await server.close();
  if (failed) throw failed;
}

/** Says on the terminal how far opening is. */
async function open(folder: string, flags: Flags): Promise<Server> {
  const { decodeRows, chunkRows, cacheBlocks } = flags;
  const given = Object.entries({ decodeRows, chunkRows, cacheBlocks }).filter(
    ([, value]) => value !== undefined,
  );
  const progress = progressLine();
  const words = { files: 'checking the package', processes: 'starting processes' };
  const options: OpenThreadOptions = {
    ...(await modelOptions(flags)),
    engine: Object.fromEntries(given),
    onProgress: (what, done, total) => progress.update(`${words[what]}: ${done} of ${total}`),
  };
  try {
    return await serve(folder, { ...options, server: await serverOptions(flags) });
  } finally {
    progress.clear();
  }
}

/** Resolves at the first SIGINT or SIGTERM; the second ends the process. */
function endSignal(): Promise<void> {
  return new Promise((resolve) => {
    let ends = false;
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.on(signal, () => {
        if (ends) process.exit(EXIT.interrupted);
        ends = true;
        resolve();
      });
    }
  });
}
