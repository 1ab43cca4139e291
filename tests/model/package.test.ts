import { mkdirSync, renameSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { MoeModel } from '#turnout/model/moe-model.js';
import { packageProblems, readPackage } from '#turnout/model/package.js';
import { BABEL, copyOfBabel, editManifest, rewrite, temporaryFolder } from '../support/babel.js';

async function problems(folder: string): Promise<string[]> {
  const codes: string[] = [];
  for await (const problem of packageProblems(await readPackage(folder))) codes.push(problem.code);
  return codes;
}

const flip = (data: Buffer) => {
  data[data.length >> 1]! ^= 1;
  return data;
};

describe('the reference package', () => {
  it('has no problem', async () => {
    expect(await problems(BABEL)).toEqual([]);
  });

  it('is at most 32 MB, and its manifest lists what its graphs need', async () => {
    const { manifest } = await readPackage(BABEL);
    const bytes = Object.values(manifest.files).reduce((sum, file) => sum + file.bytes, 0);
    expect(bytes).toBeLessThan(32e6);
    expect(manifest.layers.length).toBeGreaterThanOrEqual(4);
    expect(manifest.sizes.experts).toBe(8);
    expect(manifest.layers[0]!.router.options).toMatchObject({
      select: { k: 2 },
      admit: { scope: 'request' },
    });
  });
});

describe('a damaged package', () => {
  it.each(['layer-01/expert-003.bin', 'trunk-02.onnx', 'held-out/english.txt'])(
    'has one changed byte in %s',
    async (file) => {
      const folder = copyOfBabel();
      const { readFileSync } = await import('node:fs');
      writeFileSync(join(folder, file), flip(readFileSync(join(folder, file))));
      expect(await problems(folder)).toEqual(['TURNOUT_PACKAGE_CHECKSUM_MISMATCH']);
      await expect(MoeModel.open(folder, { backend: 'inline' })).rejects.toMatchObject({
        code: 'TURNOUT_PACKAGE_CHECKSUM_MISMATCH',
        details: { file },
      });
    },
  );

  it('lacks files: each is told', async () => {
    const folder = copyOfBabel();
    rmSync(join(folder, 'layer-00/gate.onnx'));
    rmSync(join(folder, 'trunk-04.bin'));
    expect(await problems(folder)).toEqual(['TURNOUT_PACKAGE_FILE_MISSING', 'TURNOUT_PACKAGE_FILE_MISSING']);
  });

  it('has a shortened file', async () => {
    const folder = copyOfBabel();
    truncateSync(join(folder, 'layer-02/expert-000.bin'), 1000);
    expect(await problems(folder)).toEqual(['TURNOUT_PACKAGE_SIZE_MISMATCH']);
  });

  it('is no package', async () => {
    await expect(readPackage(temporaryFolder())).rejects.toMatchObject({
      code: 'TURNOUT_PACKAGE_FILE_MISSING',
    });
  });
});

describe('a hostile package', () => {
  it.each(['../outside.onnx', '/etc/passwd', 'a/../../b', 'a\\b', 'C:/x', './x', 'a//b'])(
    'names the path %s',
    async (path) => {
      const folder = copyOfBabel();
      editManifest(folder, (manifest) => {
        manifest.files[path] = { bytes: 1, sha256: '0'.repeat(64) };
      });
      await expect(readPackage(folder)).rejects.toMatchObject({ code: 'TURNOUT_PACKAGE_PATH_OUTSIDE' });
    },
  );

  it('has a link that leads out, of a file or of a folder', async () => {
    for (const path of ['layer-00/gate.bin', 'layer-03']) {
      const folder = copyOfBabel();
      const outside = join(dirname(folder), 'outside');
      mkdirSync(outside);
      renameSync(join(folder, path), join(outside, 'moved'));
      symlinkSync(join(outside, 'moved'), join(folder, path));
      expect(new Set(await problems(folder))).toEqual(new Set(['TURNOUT_PACKAGE_PATH_OUTSIDE']));
    }
  });

  it('has ONNX data that lies outside, or in a file that is not listed', async () => {
    for (const [location, code] of [
      ['../expert.bin', 'TURNOUT_PACKAGE_FILE_MISSING'],
      ['../../out.bin', 'TURNOUT_PACKAGE_PATH_OUTSIDE'],
      ['/etc/passwd12', 'TURNOUT_PACKAGE_PATH_OUTSIDE'],
      ['another-00.bin', 'TURNOUT_PACKAGE_FILE_MISSING'],
    ] as const) {
      const folder = copyOfBabel();
      const text = 'expert-000.bin';
      rewrite(folder, 'layer-00/expert-000.onnx', (data) =>
        Buffer.from(
          data.toString('latin1').replaceAll(text, location.padEnd(text.length, 'x').slice(0, text.length)),
          'latin1',
        ),
      );
      expect((await problems(folder))[0], location).toBe(code);
    }
  });
});

describe('a package whose parts do not fit', () => {
  it.each([
    ['hidden', 64],
    ['vocabulary', 300],
  ])('claims another size: %s %i', async (key, value) => {
    const folder = copyOfBabel();
    editManifest(folder, (manifest) => {
      manifest.sizes[key] = value;
    });
    expect(new Set(await problems(folder))).toEqual(new Set(['TURNOUT_PACKAGE_SHAPE_MISMATCH']));
    await expect(MoeModel.open(folder, { backend: 'inline' })).rejects.toMatchObject({
      code: 'TURNOUT_PACKAGE_SHAPE_MISMATCH',
    });
  });

  it('gives a state another shape', async () => {
    const folder = copyOfBabel();
    editManifest(folder, (manifest) => {
      manifest.program.states[1].heads = 8;
    });
    expect(await problems(folder)).toContain('TURNOUT_PACKAGE_SHAPE_MISMATCH');
  });

  it('swaps a gate and an expert', async () => {
    const folder = copyOfBabel();
    editManifest(folder, (manifest) => {
      manifest.layers[0].experts[0].model = manifest.layers[0].gate.model;
    });
    expect(new Set(await problems(folder))).toEqual(new Set(['TURNOUT_PACKAGE_SHAPE_MISMATCH']));
  });

  it('holds something that is not ONNX', async () => {
    const folder = copyOfBabel();
    rewrite(folder, 'trunk-00.onnx', () => Buffer.from('not a graph'));
    expect(await problems(folder)).toEqual(['TURNOUT_PACKAGE_FILE_INVALID']);
  });
});

describe('a manifest', () => {
  // biome-ignore lint/suspicious/noExplicitAny: tests write manifests that no type allows
  const cases: [string, (manifest: any) => void][] = [
    ['has an unknown key', (m) => Object.assign(m, { extra: 1 })],
    ['has another version', (m) => Object.assign(m, { version: 2 })],
    ['lists fewer experts than it says', (m) => m.layers[2].experts.pop()],
    ['reads a tensor before it is made', (m) => m.program.steps.reverse()],
    ['uses a state twice', (m) => Object.assign(m.program.steps[2], { state: 'kv.0' })],
    ['uses a file without checksum', (m) => delete m.files['layer-00/gate.onnx']],
    ['names a layer that does not exist', (m) => Object.assign(m.program.steps[1], { layer: 9 })],
    ['has an end token outside its vocabulary', (m) => Object.assign(m.tokenizer, { end: 257 })],
    ['has experts without number', (m) => Object.assign(m.sizes, { experts: 0 })],
  ];
  it.each(cases)('%s', async (_, edit) => {
    const folder = copyOfBabel();
    editManifest(folder, edit);
    await expect(readPackage(folder)).rejects.toMatchObject({ code: 'TURNOUT_MANIFEST_INVALID' });
  });

  it('is not JSON', async () => {
    const folder = copyOfBabel();
    writeFileSync(join(folder, 'manifest.json'), '{"format":');
    await expect(readPackage(folder)).rejects.toMatchObject({ code: 'TURNOUT_MANIFEST_INVALID' });
  });
});
