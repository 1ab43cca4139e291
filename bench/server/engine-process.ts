import type { GenerateOptions, GenerateResult } from '../../src/model/generate.js';
import { MoeModel } from '../../src/model/moe-model.js';
import type { BackendOptions } from '../../src/model/open.js';
import { median, samplesOf } from '../support/measure.js';
import { answerAsks } from './child.js';
import { closedLoop, type LoopSpec, type Reading } from './closed-loop.js';
import { cpuMs } from './process-stats.js';

/* The engine called directly, in a process of its own: what the server is compared with. */

/** What the load generator asks of the server, as options of the engine. */
const OPTIONS: GenerateOptions = { temperature: 0, seed: 0, ignoreEnd: true, record: false, logprobs: false };

let model: MoeModel | undefined;

const answers = {
  async open({ folder, model: options }: { folder: string; model: BackendOptions }): Promise<void> {
    model = await MoeModel.open(folder, options);
  },

  /** The text that follows each prompt, all of them at the same time. */
  async texts({ prompts, tokens }: Pick<LoopSpec, 'prompts' | 'tokens'>): Promise<string[]> {
    const results = await Promise.all(prompts.map((text) => generate(text, tokens)));
    return results.map(({ text }) => text);
  },

  /** Milliseconds to the first token of each prompt, alone: the median of `rounds`. */
  async prefill({ prompts, rounds }: { prompts: readonly string[]; rounds: number }): Promise<number[]> {
    const medians: number[] = [];
    for (const text of prompts) {
      const ms: number[] = [];
      for (let i = 0; i < rounds; i++) ms.push((await generate(text, 1)).latency.firstTokenMs!);
      medians.push(median(samplesOf(ms)));
    }
    return medians;
  },

  load(spec: LoopSpec): Promise<Reading> {
    return closedLoop(spec, {
      generate: async ({ text, maxTokens, signal }) => {
        await generate(text, maxTokens, signal);
        return {};
      },
      counts: async () => model!.engine.stats(),
      cpu: () => ({ engine: cpuMs(process.pid) }),
    });
  },
};
export type EngineProcess = typeof answers;

function generate(text: string, maxTokens: number, signal?: AbortSignal): Promise<GenerateResult> {
  return model!.generate(text, { ...OPTIONS, maxTokens, ...(signal && { signal }) }).result();
}

answerAsks(answers, async () => model?.close());
