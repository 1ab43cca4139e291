import { BATCHED, figureOf, type LoadFigure, type Measured, NAMES } from './load-figures.js';
import {
  type EngineChild,
  type LoadChild,
  type ServerChild,
  startEngine,
  startLoad,
  startServer,
} from './programs.js';
import { heldOutPrompts } from './prompts.js';
import type { Settings, Watch } from './settings.js';

/** Prompts that the clients ask in turn. */
const PROMPTS = 60;

interface Contender {
  readonly name: string;
  measure(clients: number): Promise<Measured>;
}

interface Parts {
  readonly settings: Settings;
  readonly engine: EngineChild;
  readonly load: LoadChild;
  readonly server: ServerChild;
  readonly prompts: readonly string[];
}

/** The server beside the engine called directly, with as many sequences in each, in turns. */
export async function throughput(settings: Settings, watch: Watch): Promise<LoadFigure[]> {
  watch.signal?.throwIfAborted();
  const prompts = await heldOutPrompts(settings.package, { count: PROMPTS, tokens: settings.tokens });
  const running = Math.max(...settings.clients);
  await using engine = await startEngine(settings);
  await using load = startLoad();
  await using server = await startServer(settings, { running });
  await using alone = await startServer({ ...settings, node: [] }, { running: 1 });
  const parts = { settings, engine, load, server, prompts };
  watch.onProgress?.('comparing the texts of the server with those of the engine');
  await checkEqual(parts);
  const prefillMs = await engine.ask('prefill', { prompts, rounds: settings.rounds });
  const figures: LoadFigure[] = [];
  for (const clients of settings.clients) {
    const contenders = contendersOf(parts);
    if (clients === BATCHED) contenders.push(served(NAMES.alone, { ...parts, server: alone }, false));
    const measured = await inTurns(contenders, clients, { rounds: settings.rounds, watch });
    for (const { name } of contenders) {
      figures.push(figureOf({ name, clients, tokens: settings.tokens, prefillMs }, measured));
    }
  }
  return figures;
}

/** The texts over HTTP are those of the engine. */
async function checkEqual({ engine, load, server, prompts, settings }: Parts): Promise<void> {
  const { tokens } = settings;
  const expected = await engine.ask('texts', { prompts, tokens });
  for (const stream of [false, true]) {
    const got = await load.ask('texts', { ...target(server), prompts, tokens, stream, clients: 1, ms: 0 });
    const wrong = expected.findIndex((text, i) => text !== got[i]);
    if (wrong < 0) continue;
    const what = `${stream ? 'streamed' : 'whole'} answer ${wrong}`;
    throw new Error(
      `${what}: expected ${JSON.stringify(expected[wrong])}, got ${JSON.stringify(got[wrong])}`,
    );
  }
}

function target({ url, pid }: ServerChild) {
  return { url, pid };
}

function contendersOf(parts: Parts): Contender[] {
  const { engine, prompts, settings } = parts;
  const direct: Contender = {
    name: NAMES.engine,
    measure: async (clients) => {
      const { tokens, seconds } = settings;
      return { reading: await engine.ask('load', { clients, prompts, tokens, ms: seconds * 1000 }) };
    },
  };
  return [direct, served(NAMES.whole, parts, false), served(NAMES.streaming, parts, true)];
}

function served(name: string, { settings, load, server, prompts }: Parts, stream: boolean): Contender {
  const { tokens, seconds } = settings;
  return {
    name,
    measure: async (clients) => {
      const spec = { clients, prompts, tokens, stream, ms: seconds * 1000 };
      await server.ask('delays');
      const reading = await load.ask('load', { ...target(server), ...spec });
      return { reading, delay: await server.ask('delays') };
    },
  };
}

async function inTurns(
  contenders: readonly Contender[],
  clients: number,
  { rounds, watch }: { readonly rounds: number; readonly watch: Watch },
): Promise<Map<string, Measured[]>> {
  const measured = new Map<string, Measured[]>(contenders.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    for (const { name, measure } of contenders) {
      watch.signal?.throwIfAborted();
      watch.onProgress?.(`${clients} clients, round ${round + 1} of ${rounds}: ${name}`);
      measured.get(name)!.push(await measure(clients));
    }
  }
  return measured;
}
