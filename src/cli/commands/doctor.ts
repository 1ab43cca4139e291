import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { availableParallelism, cpus, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Command } from 'commander';
import { TurnoutError } from '../../errors.js';
import { type ProviderTrial, runtimeInfo } from '../../experts/session.js';
import { type OnnxGraph, writeOnnxFile } from '../../model/onnx-write.js';
import { readPackage, verifyPackage } from '../../model/package.js';
import { BUNDLED } from '../packages.js';
import { EXIT, print } from '../support.js';

const EXAMPLE = `
Example:
  $ turnout doctor
  $ turnout doctor --json | jq .providers

Exit code 1 where the CPU cannot run an expert or the bundled package is damaged.`;

/** Drivers may hang as well as crash. */
const TRIAL_MS = 30_000;
const CUDA_HINT =
  'CUDA 12 (Linux x64): node node_modules/onnxruntime-node/script/install.js --onnxruntime-node-install=cuda12';
const TRIAL = fileURLToPath(new URL('../provider-trial.js', import.meta.url));

type Provider = { name: string; bundled: boolean } & ProviderTrial;

/** `turnout doctor`: what this machine has, each execution provider tried for real on a one-row expert. */
export const doctorCommand = new Command('doctor')
  .description('Show versions, and try every execution provider for real on a one-row expert.')
  .option('--json', 'print the result as JSON')
  .addHelpText('after', EXAMPLE)
  .action(async ({ json }: { json?: true }) => {
    const report = await examine();
    const cpu = report.providers.find((provider) => provider.name === 'cpu');
    if (!cpu?.ok || !report.package.ok) process.exitCode = EXIT.failed;
    await print(json ? JSON.stringify(report, null, 2) : describe(report));
  });

async function examine() {
  const { onnxruntime, providers } = runtimeInfo();
  const manifest = new URL('../../../../package.json', import.meta.url);
  return {
    turnout: JSON.parse(await readFile(manifest, 'utf8')).version as string,
    node: process.version,
    onnxruntime,
    platform: `${process.platform} ${process.arch}`,
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    memoryBytes: totalmem(),
    providers: await tryAll(providers),
    install: providers.some((provider) => provider.name === 'cuda') ? [CUDA_HINT] : [],
    package: await checkBundled(),
  };
}

async function tryAll(providers: readonly { name: string; bundled: boolean }[]): Promise<Provider[]> {
  const folder = await mkdtemp(join(tmpdir(), 'turnout-doctor-'));
  try {
    const model = join(folder, 'expert.onnx');
    await writeOnnxFile(model, smallExpert());
    const results: Provider[] = [];
    for (const provider of providers) results.push({ ...provider, ...(await tryOne(provider.name, model)) });
    return results;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function tryOne(provider: string, model: string): Promise<ProviderTrial> {
  try {
    const { stdout } = await promisify(execFile)(process.execPath, [TRIAL, provider, model], {
      timeout: TRIAL_MS,
    });
    return JSON.parse(stdout) as ProviderTrial;
  } catch (cause) {
    const { killed, signal, code } = cause as { killed?: boolean; signal?: string; code?: unknown };
    const how = killed ? `gave no answer in ${TRIAL_MS / 1000} s` : `ended its process (${signal ?? code})`;
    return { ok: false, error: `the provider ${how}` };
  }
}

/** relu(x W1) W2 with H = 4, F = 8. */
function smallExpert(): OnnxGraph {
  const weights = (rows: number, cols: number) =>
    Float32Array.from({ length: rows * cols }, (_, i) => (i % 7) / 10 - 0.2);
  return {
    inputs: [{ name: 'x', elemType: 'float32', dims: ['n', 4] }],
    outputs: [{ name: 'y', elemType: 'float32', dims: ['n', 4] }],
    nodes: [
      { op: 'MatMul', inputs: ['x', 'w1'], outputs: ['up'] },
      { op: 'Relu', inputs: ['up'], outputs: ['active'] },
      { op: 'MatMul', inputs: ['active', 'w2'], outputs: ['y'] },
    ],
    initializers: [
      { name: 'w1', dims: [4, 8], data: weights(4, 8) },
      { name: 'w2', dims: [8, 4], data: weights(8, 4) },
    ],
  };
}

async function checkBundled(): Promise<{ ok: boolean; problem?: string }> {
  try {
    await verifyPackage(await readPackage(BUNDLED));
    return { ok: true };
  } catch (error) {
    if (error instanceof TurnoutError) return { ok: false, problem: `${error.code}: ${error.message}` };
    throw error;
  }
}

function describe(report: Awaited<ReturnType<typeof examine>>): string {
  const providers = report.providers.map((provider) => {
    const outcome = provider.ok
      ? `works (${provider.milliseconds.toFixed(0)} ms to open and run)`
      : provider.error.split('\n')[0];
    return `  ${provider.name.padEnd(10)} ${outcome}`;
  });
  const { package: bundled } = report;
  return [
    `turnout ${report.turnout}, Node ${report.node}, ONNX Runtime ${report.onnxruntime}, ${report.platform}`,
    `${report.cpu}, ${report.cores} cores, ${(report.memoryBytes / 2 ** 30).toFixed(1)} GiB of memory`,
    'execution providers, each tried on a one-row expert:',
    ...providers,
    `bundled package: ${bundled.ok ? 'every byte is right' : bundled.problem}`,
    ...(report.install.length > 0
      ? ['to add what does not come with npm:', ...report.install.map((line) => `  ${line}`)]
      : []),
  ].join('\n');
}
