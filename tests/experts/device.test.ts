import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkCpus, cpuNumbers } from '#turnout/experts/cpu-list.js';
import {
  type Device,
  deviceEnvironment,
  parseDevice,
  parseDevices,
  providerOptions,
} from '#turnout/experts/device.js';
import { temporaryFolder } from '../support/babel.js';

const unavailable = (message: RegExp) =>
  expect.objectContaining({ code: 'TURNOUT_DEVICE_UNAVAILABLE', message: expect.stringMatching(message) });

const cpuPart = fc
  .tuple(fc.nat(200), fc.option(fc.nat(20)))
  .map(([first, more]) => (more === null ? `${first}` : `${first}-${first + more}`));
const cpuDevice = fc.array(cpuPart, { minLength: 1, maxLength: 4 }).map((parts) => `cpu:${parts.join(',')}`);
const otherDevice = fc
  .tuple(fc.constantFrom('cuda', 'webgpu', 'tensorrt', 'dml', 'coreml'), fc.option(fc.nat(9999)))
  .map(([provider, index]) => (index === null ? provider : `${provider}:${index}`));
const deviceName = fc.oneof(fc.constant('cpu'), cpuDevice, otherDevice);

describe('parseDevice', () => {
  it('reads providers, numbers and lists of CPUs', () => {
    expect(parseDevice('cpu')).toEqual({ name: 'cpu', provider: 'cpu' });
    expect(parseDevice('cpu:0-1,4')).toEqual({ name: 'cpu:0-1,4', provider: 'cpu', cpus: '0-1,4' });
    expect(parseDevice('cuda:1')).toEqual({ name: 'cuda:1', provider: 'cuda', index: 1 });
    expect(parseDevice('webgpu')).toEqual({ name: 'webgpu', provider: 'webgpu' });
  });

  it.each([
    ...[
      '',
      ' ',
      ':',
      ':0',
      'cpu:',
      'cpu:1-0',
      'cpu:0,,1',
      'cpu:0,',
      'cpu:,0',
      'cpu:0-',
      'cpu:-1',
      'cpu:0-1-2',
    ],
    ...['cpu:a', 'cpu:8192', 'cpu:0-99999999999', 'cpu: 0', 'CPU', 'CUDA:0', 'cuda:', 'cuda:-1', 'cuda:0,1'],
    ...['cuda:0-1', 'webgpu:1.5', 'cuda:12345', 'cuda:0:1', 'cuda 0', '0', 'cpu\n', 'cuda:0\n', '--help'],
  ])('refuses %j', (name) => {
    const error = expect.objectContaining({ code: 'TURNOUT_OPTIONS_INVALID', details: { device: name } });
    expect(() => parseDevice(name)).toThrow(error);
  });

  it('keeps the name, and throws nothing but its own error', () => {
    fc.assert(fc.property(deviceName, (name) => parseDevice(name).name === name));
    const noise = fc.oneof(fc.string(), fc.stringMatching(/^(cpu|cuda|webgpu):[0-9,-]*$/));
    const parses = (text: string) => {
      try {
        return parseDevice(text).name === text;
      } catch (error) {
        return (error as { code?: string }).code === 'TURNOUT_OPTIONS_INVALID';
      }
    };
    fc.assert(fc.property(noise, parses));
  });
});

describe('parseDevices', () => {
  const names = (list: string) => parseDevices(list).map(({ name }) => name);

  it('parts devices, not the CPUs of one', () => {
    expect(names('cpu:0,2,webgpu,cuda:1')).toEqual(['cpu:0,2', 'webgpu', 'cuda:1']);
    expect(names(' cpu:0-1 , 3 , cpu:2\n')).toEqual(['cpu:0-1,3', 'cpu:2']);
    expect(names('cuda:0,cuda:0')).toEqual(['cuda:0', 'cuda:0']);
  });

  it('reads back what is joined', () => {
    const list = fc.array(deviceName, { minLength: 1, maxLength: 6 });
    fc.assert(
      fc.property(list, (devices) => {
        expect(names(devices.join(','))).toEqual(devices);
      }),
    );
  });

  it.each(['', ',', 'cpu,', ',cpu', 'cpu,,cuda:0', 'cpu:0,,1', 'webgpu,1', 'cuda:0,1'])(
    'refuses %j',
    (list) => {
      expect(() => parseDevices(list)).toThrow(expect.objectContaining({ code: 'TURNOUT_OPTIONS_INVALID' }));
    },
  );
});

describe('deviceEnvironment', () => {
  const of = (name: string, env = {}) => deviceEnvironment(parseDevice(name), env);

  it('shows a process its own GPU alone, counted along the bus', () => {
    expect(of('cuda:1')).toEqual({ CUDA_VISIBLE_DEVICES: '1', CUDA_DEVICE_ORDER: 'PCI_BUS_ID' });
    expect(of('tensorrt:0')).toEqual(of('cuda:0'));
    expect(of('migraphx:2')).toEqual({ HIP_VISIBLE_DEVICES: '2' });
    expect(of('cuda:1', { CUDA_DEVICE_ORDER: 'FASTEST_FIRST' })).toEqual({ CUDA_VISIBLE_DEVICES: '1' });
  });

  it.each(['cpu', 'cpu:0', 'cuda', 'webgpu', 'webgpu:0', 'dml:1'])('adds nothing for %s', (name) => {
    expect(of(name, { CUDA_VISIBLE_DEVICES: '2,3' })).toEqual({});
  });

  it('counts what this process sees, and leaves its order', () => {
    const env = { CUDA_VISIBLE_DEVICES: '2, 3,GPU-8932f937,-1,0' };
    expect(of('cuda:0', env)).toEqual({ CUDA_VISIBLE_DEVICES: '2' });
    expect(of('cuda:1', env)).toEqual({ CUDA_VISIBLE_DEVICES: '3' });
    expect(of('cuda:2', env)).toEqual({ CUDA_VISIBLE_DEVICES: 'GPU-8932f937' });
    expect(() => of('cuda:3', env)).toThrow(
      unavailable(/^cuda:3: CUDA_VISIBLE_DEVICES=.* cuda:0 to cuda:2$/),
    );
    expect(() => of('migraphx:5', { HIP_VISIBLE_DEVICES: '0' })).toThrow(unavailable(/only migraphx:0$/));
  });

  it.each(['', '-1', ' ', '-1,0'])('finds no device in %j', (list) => {
    expect(() => of('cuda:0', { CUDA_VISIBLE_DEVICES: list })).toThrow(unavailable(/shows no device$/));
  });
});

describe('providerOptions', () => {
  const of = (name: string, env = {}) => providerOptions(parseDevice(name), env);
  const started = (device: Device) => providerOptions(device, deviceEnvironment(device, {}));

  it('counts from 0 in a process that sees one device', () => {
    expect(started(parseDevice('cuda:3'))).toEqual({ name: 'cuda', deviceId: 0 });
    expect(of('cuda')).toEqual({ name: 'cuda' });
    expect(of('dml:2')).toEqual({ name: 'dml', deviceId: 2 });
  });

  it('never takes another device in silence', () => {
    expect(() => of('cuda:1')).toThrow(unavailable(/sees this device alone/));
    expect(() => of('cuda:1', { CUDA_VISIBLE_DEVICES: '0,1' })).toThrow(unavailable(/alone/));
    for (const provider of ['webgpu', 'coreml', 'qnn']) {
      expect(of(`${provider}:0`)).toEqual({ name: provider });
      expect(() => of(`${provider}:1`)).toThrow(unavailable(/chooses the device/));
    }
  });
});

describe('CPU lists', () => {
  it('are sets', () => {
    expect(cpuNumbers('4,0-2,1')).toEqual([0, 1, 2, 4]);
    expect(cpuNumbers('0-')).toBeUndefined();
  });

  it('are compared with what the kernel allows', async () => {
    const status = join(temporaryFolder(), 'status');
    const allow = (list: string) => writeFile(status, `Name:\tnode\nCpus_allowed_list:\t${list}\nMems:\t0\n`);
    await allow('0-2,4');
    await checkCpus(parseDevice('cpu:4,0,1,2'), status);
    await checkCpus(parseDevice('cpu'), 'no-such-file');
    await expect(checkCpus(parseDevice('cpu:0-4'), status)).rejects.toThrow(
      unavailable(/0-4, got one on 0-2,4$/),
    );
    await expect(checkCpus(parseDevice('cpu:0'), status)).rejects.toThrow(unavailable(/^cpu:0/));
    await expect(checkCpus(parseDevice('cpu:0'), 'no-such-file')).rejects.toThrow(
      unavailable(/unknown CPUs$/),
    );
  });
});
