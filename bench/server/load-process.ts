import { answerAsks } from './child.js';
import { Client } from './client.js';
import { closedLoop, type LoopSpec, type Reading, type StepCounts } from './closed-loop.js';
import { completionBody, streamedText, wholeText } from './completion.js';
import { type MixedCounts, MixedLoad } from './mixed-load.js';
import { type OpenFigure, type OpenSpec, openLoop } from './open-loop.js';
import { cpuMs } from './process-stats.js';

/* The load generator, in a process of its own. */

interface Target {
  readonly url: string;
  /** The server's process. */
  readonly pid: number;
}

let mixed: MixedLoad | undefined;

type LoadSpec = Target & LoopSpec & { readonly stream: boolean };

const answers = {
  /** The text that follows each prompt, all of them at the same time. */
  async texts({ url, prompts, tokens, stream }: LoadSpec): Promise<string[]> {
    const client = new Client(url);
    const bodies = await Promise.all(
      prompts.map(async (prompt) => {
        const body = completionBody({ prompt, tokens, stream });
        return (await client.ask({ path: '/v1/completions', body, keep: true })).body.toString();
      }),
    );
    client.close();
    return bodies.map(stream ? streamedText : wholeText);
  },

  async load({ url, pid, stream, ...spec }: LoadSpec): Promise<Reading> {
    const client = new Client(url);
    try {
      return await closedLoop(spec, {
        generate: async ({ text, maxTokens, signal }) => {
          const body = completionBody({ prompt: text, tokens: maxTokens, stream });
          const { status, firstMs, body: end } = await client.ask({ path: '/v1/completions', body, signal });
          if (status !== 200) throw new Error(`expected status 200, got ${status}: ${end}`);
          if (stream && !end.toString('latin1').endsWith('data: [DONE]\n\n'))
            throw new Error(`cut off: ${end}`);
          return stream ? { firstMs } : {};
        },
        counts: () => stepCounts(client),
        cpu: () => ({ server: cpuMs(pid), 'server main thread': cpuMs(pid, pid), load: cpuMs(process.pid) }),
      });
    } finally {
      client.close();
    }
  },

  /** Asks at a rate that does not depend on the answers. */
  async open({ url, ...spec }: { url: string } & OpenSpec): Promise<OpenFigure> {
    const client = new Client(url);
    try {
      return await openLoop(client, spec);
    } finally {
      client.close();
    }
  },

  async startMixed({ url, prompts }: { url: string; prompts: readonly string[] }): Promise<void> {
    mixed = new MixedLoad(url, prompts);
  },

  async mixedCounts(): Promise<MixedCounts> {
    return mixed!.counts();
  },

  async stopMixed(): Promise<MixedCounts> {
    return mixed!.stop();
  },
};
export type LoadProcess = typeof answers;

async function stepCounts(client: Client): Promise<StepCounts> {
  const { body } = await client.ask({ path: '/v1/status', keep: true });
  return (JSON.parse(body.toString()) as { engine: StepCounts }).engine;
}

answerAsks(answers);
