import { describe, expect, it } from 'vitest';
import { type BackendOptions, openBackend } from '#turnout/model/open.js';

const LANES = [{ device: 'cpu', experts: [0] }];

describe('openBackend refuses', () => {
  const cases: [BackendOptions, RegExp][] = [
    [
      { backend: 'nothing' as never },
      /^backend: expected auto or inline or threads or processes, got nothing$/,
    ],
    [{ backend: 'processes', lanes: 2 }, /^lanes: not an option of the backend processes$/],
    [{ devices: ['cpu:0'] }, /^devices: not an option of the backend auto$/],
    [{ backend: 'inline', replicas: 1 }, /^replicas: not an option of the backend inline$/],
    [{ backend: 'threads', lanes: 2, replicas: 3 }, /^replicas: expected a whole number from 1 to 2, got 3$/],
    [{ backend: 'inline', placement: LANES }, /^placement: not an option/],
    [{ backend: 'threads', onLostExpert: 'drop' }, /^onLostExpert: not an option/],
  ];
  it.each(cases)('%j', async (options, message) => {
    // Before it looks for the file.
    await expect(openBackend(['/nowhere.onnx'], undefined, options)).rejects.toMatchObject({
      code: 'TURNOUT_OPTIONS_INVALID',
      message: expect.stringMatching(message),
    });
  });
});
