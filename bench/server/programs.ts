import type { ServerOptions } from '../../src/server/options.js';
import { Child } from './child.js';
import type { EngineProcess } from './engine-process.js';
import type { LoadProcess } from './load-process.js';
import type { ServerProcess } from './server-process.js';
import type { Settings } from './settings.js';

export type EngineChild = Child<EngineProcess>;
export type LoadChild = Child<LoadProcess>;
export type ServerChild = Child<ServerProcess> & { readonly url: string };

type Opened = Pick<Settings, 'package' | 'model' | 'node'>;

/** The server in a process of its own, listening. */
export async function startServer(
  { package: folder, model, node }: Opened,
  server: ServerOptions = {},
): Promise<ServerChild> {
  const child = new Child<ServerProcess>(new URL('./server-process.js', import.meta.url), node);
  const url = await orEnded(child, child.ask('open', { folder, model, server }));
  return Object.assign(child, { url });
}

/** The engine alone in a process of its own. */
export async function startEngine({ package: folder, model }: Omit<Opened, 'node'>): Promise<EngineChild> {
  const child = new Child<EngineProcess>(new URL('./engine-process.js', import.meta.url));
  await orEnded(child, child.ask('open', { folder, model }));
  return child;
}

/** What a program answers; where that is an error, it is ended: it would keep this process alive. */
async function orEnded<T>(child: AsyncDisposable, asked: Promise<T>): Promise<T> {
  try {
    return await asked;
  } catch (error) {
    await child[Symbol.asyncDispose]();
    throw error;
  }
}

export function startLoad(): LoadChild {
  return new Child<LoadProcess>(new URL('./load-process.js', import.meta.url));
}
