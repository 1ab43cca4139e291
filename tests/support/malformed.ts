import fc from 'fast-check';

/** A body that no endpoint may take, with the content type that it is sent with. */
export interface Malformed {
  readonly kind: string;
  readonly path: string;
  readonly type: string | undefined;
  readonly body: Buffer;
}

const JSON_TYPE = 'application/json';

/** Bodies that are fine, but for chats: babel has no chat template. */
const VALID: Readonly<Record<string, Record<string, unknown>>> = {
  '/v1/completions': { model: 'babel', prompt: 'In the ', max_tokens: 1, temperature: 0, stop: ['x'], n: 1 },
  '/v1/chat/completions': { messages: [{ role: 'user', content: 'In the ' }], max_tokens: 1 },
  '/v1/routing/trace': { text: 'In the ', max_tokens: 0, seed: 1, router: { k: 1, capacity_factor: 1 } },
};
const PATHS = Object.keys(VALID);

/** Values that hardly any field takes. */
const NUMBERS = [-1, -1e308, 1e308, 2 ** 53 + 2, 2 ** 31, 0.5, 3e-320].map(String);
/** JSON.parse makes infinity of the first two. */
const HUGE = ['1e400', '-1e400', '9'.repeat(400), `1${'0'.repeat(300)}.5`];
const OTHERS = ['{}', '[]', '[[]]', '[{}]', '[null]', '"x"', '""', '{"a":1}', '[1,"a"]', '"\\u0000"'];

/** JSON texts that each field refuses. */
const WRONG: Readonly<Record<string, readonly string[]>> = {
  prompt: [
    ...NUMBERS,
    ...HUGE,
    'null',
    'true',
    '{}',
    '[]',
    '[[]]',
    '[1,"a"]',
    '["a",1]',
    '[[1],"a"]',
    '[-1]',
    '[0.5]',
    '[257]',
    '[1e9]',
    '[null]',
  ],
  messages: [
    ...NUMBERS,
    ...HUGE,
    ...OTHERS,
    'null',
    'true',
    '[{"role":"user"}]',
    '[{"role":"root","content":"a"}]',
    '[{"role":"user","content":5}]',
  ],
  text: [...NUMBERS, ...HUGE, 'null', 'true', '{}', '[]'],
  model: [...NUMBERS, ...HUGE, 'null', 'true', '{}', '[]', '"another"', '""', '"__proto__"'],
  max_tokens: [...NUMBERS, ...HUGE, ...OTHERS, 'true', '3000', '2147483647'],
  temperature: [...['-1', '2.5', '1e308', '"1"', 'true', '{}', '[]'], ...HUGE],
  top_p: ['0', '-1', '1.1', '"1"', 'true', '{}', '1e308', ...HUGE],
  top_k: ['-2', '0.5', '"1"', 'true', '{}', ...HUGE.slice(0, 2)],
  n: [...NUMBERS, ...HUGE, ...OTHERS, '0', '129', 'true'],
  seed: ['1e308', '0.5', '9007199254740994', '"1"', 'true', '{}', ...HUGE],
  stop: ['5', 'true', '{}', '""', '[""]', '[5]', `[${'"a",'.repeat(16)}"a"]`],
  stream: [...NUMBERS, ...OTHERS, '"true"', '1', '0'],
  stream_options: ['true', '5', '"a"', '{"x":1}', '{"include_usage":1}', '[]'],
  logit_bias: ['{"5":1}', '[]', 'true', '{"__proto__":1}', '5'],
  logprobs: ['21', '-1', '0.5', '{}', '"1"', '[]', ...HUGE],
  priority: ['6', '-1', '0.5', '"1"', '{}', ...HUGE],
  timeout_ms: ['0', '-1', '0.5', '"1"', '{}', '1e300', ...HUGE],
  return_routed_experts: ['1', '"true"', '{}', '[]'],
  frequency_penalty: ['1', '-1', '"0"', '{}'],
  tokens: ['[]', '[-1]', '["a"]', '[0.5]', 'null', '5', '{}', '[[1]]', '[1]'],
  router: [
    'null',
    '5',
    '[]',
    '"a"',
    '{"x":1}',
    '{"preset":5}',
    '{"preset":"nope"}',
    '{"k":0}',
    '{"k":9}',
    '{"k":1e308}',
    '{"k":0.5}',
    '{"k":"1"}',
    '{"capacity_factor":0}',
    '{"capacity_factor":-1}',
    '{"capacity_factor":1e400}',
    '{"capacity_factor":"x"}',
    '{"__proto__":1}',
    '{"preset":"__proto__"}',
    '{"preset":"constructor"}',
  ],
};
const COMMON = ['max_tokens', 'temperature', 'seed'];
const GENERATING = [
  'model',
  'top_p',
  'top_k',
  'n',
  'stop',
  'stream',
  'stream_options',
  'logit_bias',
  'priority',
  'timeout_ms',
  'return_routed_experts',
  'frequency_penalty',
];
const FIELDS: Readonly<Record<string, readonly string[]>> = {
  '/v1/completions': [...COMMON, ...GENERATING, 'prompt', 'logprobs'],
  '/v1/chat/completions': [...COMMON, ...GENERATING, 'messages'],
  '/v1/routing/trace': [...COMMON, 'text', 'tokens', 'router'],
};

/** A valid body as JSON with one field written in a text of its own. */
function withField(path: string, name: string, text: string): Buffer {
  const { [name]: _, ...rest } = VALID[path]!;
  const fields = Object.entries(rest).map(
    ([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`,
  );
  return Buffer.from(`{${[...fields, `${JSON.stringify(name)}:${text}`].join(',')}}`);
}

const path = fc.constantFrom(...PATHS);
const valid = (at: string) => Buffer.from(JSON.stringify(VALID[at]));
const json = (kind: string, arbitrary: fc.Arbitrary<{ path: string; body: Buffer }>) =>
  arbitrary.map((made): Malformed => ({ kind, type: JSON_TYPE, ...made }));

/** Whether bytes are JSON in UTF-8. */
function isJson(bytes: Buffer): boolean {
  try {
    JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
    return true;
  } catch {
    return false;
  }
}

const wrongValue = json(
  'a wrong value',
  path.chain((at) =>
    fc
      .constantFrom(...FIELDS[at]!)
      .chain((name) =>
        fc.constantFrom(...WRONG[name]!).map((text) => ({ path: at, body: withField(at, name, text) })),
      ),
  ),
);

const unknownField = json(
  'a field that is not known',
  fc
    .tuple(
      path,
      fc.oneof(
        fc.string(),
        fc.constantFrom('__proto__', 'constructor', 'prototype', 'toString', 'Prompt', 'prompt '),
      ),
      fc.jsonValue(),
    )
    .filter(([at, name]) => !FIELDS[at]!.includes(name) && !(name in { user: 1, echo: 1, suffix: 1 }))
    .map(([at, name, value]) => ({ path: at, body: withField(at, name, JSON.stringify(value)) })),
);

const brokenJson = json(
  'broken JSON',
  fc
    .tuple(
      path,
      fc.nat(),
      fc.oneof(fc.constant(undefined), fc.uint8Array({ minLength: 1, maxLength: 3 })),
      fc.boolean(),
    )
    .map(([at, where, insert, cut]) => {
      const bytes = valid(at);
      const middle = where % bytes.length;
      const end = bytes.subarray(cut || !insert ? bytes.length : middle);
      return { path: at, body: Buffer.concat([bytes.subarray(0, middle), insert ?? Buffer.alloc(0), end]) };
    })
    .filter(({ body }) => !isJson(body)),
);

const noise = json(
  'bytes that are no JSON',
  fc
    .record({ path, body: fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)) })
    .filter(({ body }) => !isJson(body)),
);

const badText = json(
  'text that is not UTF-8',
  fc
    .tuple(
      path,
      fc.constantFrom(
        [0xff],
        [0xc0, 0xaf],
        [0xed, 0xa0, 0x80],
        [0xf5, 0x80, 0x80, 0x80],
        [0xe2, 0x82],
        [0x80],
      ),
    )
    .map(([at, bytes]) => {
      const [before, after] = valid(at).toString().split('In the ') as [string, string];
      return { path: at, body: Buffer.concat([Buffer.from(before), Buffer.from(bytes), Buffer.from(after)]) };
    }),
);

const nested = json(
  'deep nesting',
  fc
    .tuple(path, fc.integer({ min: 33, max: 2000 }), fc.constantFrom('[]', '{}'))
    .map(([at, levels, pair]) => {
      const open = pair === '[]' ? '[' : '{"a":';
      const text = open.repeat(levels) + (pair === '[]' ? '' : '1') + pair[1]!.repeat(levels);
      return { path: at, body: levels % 2 === 0 ? Buffer.from(text) : withField(at, 'prompt', text) };
    }),
);

const notAnObject = json(
  'no object',
  fc.record({
    path,
    body: fc
      .jsonValue()
      .filter((value) => value === null || typeof value !== 'object' || Array.isArray(value))
      .map((value) => Buffer.from(JSON.stringify(value))),
  }),
);

const wrongType: fc.Arbitrary<Malformed> = fc
  .tuple(
    path,
    fc.constantFrom(
      'text/plain',
      'application/x-www-form-urlencoded',
      'multipart/form-data; boundary=x',
      'application/xml',
      'application/jsonp',
      'application',
      '; charset=utf-8',
      undefined,
    ),
  )
  .map(([at, type]) => ({ kind: 'another content type', path: at, type, body: valid(at) }));

const long = json(
  'more than the context takes',
  fc.tuple(path, fc.integer({ min: 2048, max: 3000 }), fc.boolean()).map(([at, length, list]) => {
    const name = at === '/v1/routing/trace' ? 'text' : 'prompt';
    const ids = `[${new Array(length).fill(1).join()}]`;
    return {
      path: at,
      body: withField(
        at,
        list && name === 'prompt' ? 'prompt' : name,
        list && name === 'prompt' ? ids : `"${'a'.repeat(length)}"`,
      ),
    };
  }),
);

/** Bodies that no endpoint may take. */
export const malformed: fc.Arbitrary<Malformed> = fc.oneof(
  { arbitrary: wrongValue, weight: 8 },
  { arbitrary: unknownField, weight: 3 },
  { arbitrary: brokenJson, weight: 4 },
  { arbitrary: noise, weight: 2 },
  { arbitrary: badText, weight: 1 },
  { arbitrary: nested, weight: 1 },
  { arbitrary: notAnObject, weight: 1 },
  { arbitrary: wrongType, weight: 1 },
  { arbitrary: long, weight: 1 },
);
