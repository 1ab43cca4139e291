import { readFile } from 'node:fs/promises';
import { availableParallelism, cpus, totalmem } from 'node:os';
import { Command } from 'commander';
import { TurnoutError } from '../../errors.js';
import { type Device, parseDevice, parseDevices } from '../../experts/device.js';
import { hugePages } from '../../experts/huge-pages.js';
import { runtimeInfo } from '../../experts/session.js';
import { readPackage, verifyPackage } from '../../model/package.js';
import { BUNDLED } from '../packages.js';
import { EXIT, print } from '../support.js';
import { tryDevices } from '../try-devices.js';
import { type ToolTrial, tryTools } from '../try-tools.js';

const EXAMPLE = `
Example:
  $ turnout doctor
  $ turnout doctor --devices cpu:0-1,cuda:0,webgpu
  $ turnout doctor --json | jq .providers

Each device is tried in a process of its own, as --backend processes uses it, so that a driver may crash.
Exit code 1 where the CPU or a named device cannot run an expert, or the bundled package is damaged.`;

const CUDA_HINT =
  'CUDA 12 (Linux x64): node node_modules/onnxruntime-node/script/install.js --onnxruntime-node-install=cuda12';

/** `turnout doctor`: what this machine has, each execution provider or named device tried for real on a one-row expert. */
export const doctorCommand = new Command('doctor')
  .description('Show versions, and try every execution provider for real on a one-row expert.')
  .option(
    '--devices <list>',
    'try these instead, each in a pinned process: cpu, cpu:0-1, cuda:0, webgpu, ...',
  )
  .option('--json', 'print the result as JSON')
  .addHelpText('after', EXAMPLE)
  .action(async ({ devices, json }: { devices?: string; json?: true }) => {
    const report = await examine(devices === undefined ? undefined : parseDevices(devices));
    const needed = report.devices ?? report.providers.filter((provider) => provider.name === 'cpu');
    if (!needed.every((trial) => trial.ok) || !report.package.ok) process.exitCode = EXIT.failed;
    await print(json ? JSON.stringify(report, null, 2) : describe(report));
  });

/** Tries the devices; every provider where none is named. */
async function examine(devices: readonly Device[] | undefined) {
  const { onnxruntime, providers } = runtimeInfo();
  const manifest = new URL('../../../../package.json', import.meta.url);
  const tried = devices ?? providers.map((provider) => parseDevice(provider.name));
  const trials = await tryDevices(tried);
  return {
    turnout: JSON.parse(await readFile(manifest, 'utf8')).version as string,
    node: process.version,
    onnxruntime,
    platform: `${process.platform} ${process.arch}`,
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    memoryBytes: totalmem(),
    hugePages: hugePages('threads', {}).GLIBC_TUNABLES ?? null,
    providers: devices ? [] : providers.map((provider, i) => ({ ...provider, ...trials[i]! })),
    ...(devices && { devices: devices.map(({ name }, i) => ({ name, ...trials[i]! })) }),
    tools: await tryTools(),
    install: providers.some((provider) => provider.name === 'cuda') ? [CUDA_HINT] : [],
    package: await checkBundled(),
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
  const trials = (report.devices ?? report.providers).map((trial) => {
    const outcome = trial.ok
      ? `works (${trial.milliseconds.toFixed(0)} ms to start, open and run)`
      : trial.error.replace(`${trial.name}: `, '');
    return `  ${trial.name.padEnd(10)} ${outcome}`;
  });
  const { package: bundled } = report;
  return [
    `turnout ${report.turnout}, Node ${report.node}, ONNX Runtime ${report.onnxruntime}, ${report.platform}`,
    `${report.cpu}, ${report.cores} cores, ${(report.memoryBytes / 2 ** 30).toFixed(1)} GiB of memory`,
    report.hugePages === null
      ? 'huge pages: none to be had'
      : `huge pages: your own program gets them with GLIBC_TUNABLES=${report.hugePages}`,
    `${report.devices ? 'devices' : 'execution providers'}, each tried on a one-row expert:`,
    ...trials,
    ...describeTools(report.tools),
    `bundled package: ${bundled.ok ? 'every byte is right' : bundled.problem}`,
    ...(report.install.length > 0
      ? ['to add what does not come with npm:', ...report.install.map((line) => `  ${line}`)]
      : []),
  ].join('\n');
}

function describeTools(tools: readonly ToolTrial[]): string[] {
  if (tools.length === 0) return [];
  const lines = tools.map(({ name, error, without }) => {
    const outcome = error === undefined ? 'works' : `${error}: ${without}`;
    return `  ${name.padEnd(10)} ${outcome}`;
  });
  return ['programs of util-linux that expert processes are started with:', ...lines];
}
