import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TSchema } from 'typebox';
import { describe, expect, it } from 'vitest';
import { createRouter } from '#turnout/router/create.js';
import { RouterOptions, smallestExperts } from '#turnout/router/options.js';
import { presetNames, presetOptions } from '#turnout/router/presets.js';

/** Values that no preset has, each with the test that reads them from a file of tests/vectors. */
const BY_VECTOR: Record<string, { test: string; vectors: string }> = {
  'score.function=identity': { test: 'admit', vectors: 'vmoe_dispatch' },
  'admit.formula=fixed': { test: 'admit', vectors: 'vmoe_dispatch' },
  'admit.priority=logit': { test: 'admit', vectors: 'deepspeed_topkgating' },
  'admit.formula=flaxformer': { test: 'capacity', vectors: 'derived_capacity' },
  'admit.formula=fastmoe': { test: 'capacity', vectors: 'derived_capacity' },
  'admit.formula=megablocks': { test: 'capacity', vectors: 'derived_capacity' },
  'admit.scope=request': { test: 'capacity', vectors: 'derived_capacity' },
};

/** What an absent key stands for. */
const DEFAULTS = ['admit=none', 'select.ties=lower', 'weigh.on=output'];

/** Replay has no preset: what it replays is whatever was recorded (tests/router/algorithms/given.test.ts). */
const REPLAY = 'algorithm=given';

interface Node {
  const?: unknown;
  enum?: readonly unknown[];
  anyOf?: readonly TSchema[];
  properties?: Record<string, TSchema>;
}

/** Every value that a schema names, as `path=value`. */
function namedValues(schema: TSchema, path = ''): string[] {
  const node = schema as Node;
  if (node.anyOf) return node.anyOf.flatMap((variant) => namedValues(variant, path));
  if (node.properties) {
    return Object.entries(node.properties).flatMap(([key, value]) =>
      namedValues(value, path === '' ? key : `${path}.${key}`),
    );
  }
  return (node.enum ?? (node.const === undefined ? [] : [node.const])).map((value) => `${path}=${value}`);
}

/** Every string that options hold, in the same form. */
function usedValues(value: unknown, path = ''): string[] {
  if (typeof value === 'string') return [`${path}=${value}`];
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return [];
  return Object.entries(value).flatMap(([key, inner]) =>
    usedValues(inner, path === '' ? key : `${path}.${key}`),
  );
}

const named = [...new Set(namedValues(RouterOptions))];
const used = new Set(presetNames.flatMap((name) => usedValues(presetOptions(name))));

describe('the options', () => {
  it('have no value that neither a cited preset nor a vector uses', () => {
    const unused = named.filter(
      (value) => value !== REPLAY && !used.has(value) && !(value in BY_VECTOR) && !DEFAULTS.includes(value),
    );
    expect(unused).toEqual([]);
  });

  it('name the vector of each value that no preset uses, and its test reads it', () => {
    for (const [value, { test, vectors }] of Object.entries(BY_VECTOR)) {
      expect(named).toContain(value);
      expect([value, used.has(value)]).toEqual([value, false]);
      const text = readFileSync(join(import.meta.dirname, `${test}.test.ts`), 'utf8');
      expect(text).toContain(`vectors('${vectors}')`);
      expect(text.includes(`'${value.split('=')[1]}'`) || text.includes('plain(')).toBe(true);
    }
  });

  it('have at most eight keys a rule, and no boolean', () => {
    for (const rule of (RouterOptions as unknown as { anyOf: Node[] }).anyOf) {
      expect(Object.keys(rule.properties!).length).toBeLessThanOrEqual(8);
    }
    expect(JSON.stringify(RouterOptions)).not.toContain('"boolean"');
  });

  it('take no unknown keys anywhere', () => {
    const check = (schema: TSchema): void => {
      const node = schema as Node & { additionalProperties?: unknown };
      if (node.properties) expect(node.additionalProperties).toBe(false);
      for (const inner of [...(node.anyOf ?? []), ...Object.values(node.properties ?? {})]) check(inner);
    };
    check(RouterOptions);
  });

  it('every preset is documented with its source and the order of softmax and top-k', () => {
    for (const file of ['papers', 'checkpoints']) {
      const text = readFileSync(
        join(import.meta.dirname, '..', '..', 'src', 'router', 'presets', `${file}.ts`),
        'utf8',
      );
      const entries = [...text.matchAll(/\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\s+'?([a-z0-9.+-]+)'?: \{/g)];
      expect(entries.length).toBe(text.match(/algorithm: '/g)!.length);
      for (const [, doc, name] of entries) {
        expect(presetNames).toContain(name);
        expect([name, /20\d\d|appendix|section/.test(doc)]).toEqual([name, true]);
      }
    }
  });

  it('tell the smallest E that they accept', () => {
    for (const name of presetNames) {
      const options = presetOptions(name);
      const E = smallestExperts(options);
      expect(createRouter(options, E).experts).toBe(E);
      expect(() => createRouter(options, E - 1)).toThrow();
    }
  });
});
