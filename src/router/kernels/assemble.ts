/*
 * WebAssembly text, in its folded form, to a binary module: the few instructions that the kernels of this folder use.
 * Names and meaning are those of the specification (WebAssembly Core 2.0, sections 5 and 6), so that a kernel reads
 * like any .wat file. A text is one function, `(func (param $x i32) ... (local $y v128) ... instructions)`.
 */

type Node = string | readonly Node[];

const TYPES: Readonly<Record<string, number>> = { i32: 0x7f, f32: 0x7d, v128: 0x7b };
const NO_RESULT = 0x40;
const END = 0x0b;
const SIMD = 0xfd;
/** Kinds of imports and exports; limits of a memory that has a maximum and that threads share. */
const FUNCTION = 0;
const MEMORY = 2;
const SHARED = 3;
/** Pages that 32 bits can address. */
const MOST_PAGES = 65_536;

/** Opcodes; those of vectors follow the prefix SIMD. */
const OPCODES: Readonly<Record<string, readonly number[]>> = {
  block: [0x02],
  loop: [0x03],
  if: [0x04],
  br: [0x0c],
  br_if: [0x0d],
  'local.get': [0x20],
  'local.set': [0x21],
  'i32.load': [0x28],
  'f32.load': [0x2a],
  'i32.store': [0x36],
  'f32.store': [0x38],
  'i32.const': [0x41],
  'f32.const': [0x43],
  'i32.eqz': [0x45],
  'i32.eq': [0x46],
  'i32.lt_u': [0x49],
  'i32.gt_u': [0x4b],
  'i32.le_u': [0x4d],
  'i32.ge_u': [0x4f],
  'f32.eq': [0x5b],
  'f32.lt': [0x5d],
  'i32.ctz': [0x68],
  'i32.add': [0x6a],
  'i32.sub': [0x6b],
  'i32.mul': [0x6c],
  'i32.and': [0x71],
  'i32.or': [0x72],
  'i32.shl': [0x74],
  'i32.shr_u': [0x76],
  'f32.min': [0x96],
  'f32.max': [0x97],
  'v128.load': [SIMD, 0x00],
  'v128.store': [SIMD, 0x0b],
  'f32x4.splat': [SIMD, 0x13],
  'f32x4.extract_lane': [SIMD, 0x1f],
  'f32x4.eq': [SIMD, 0x41],
  'f32x4.lt': [SIMD, 0x43],
  'f32x4.gt': [SIMD, 0x44],
  'f32x4.ge': [SIMD, 0x46],
  'v128.and': [SIMD, 0x4e],
  'v128.or': [SIMD, 0x50],
  'v128.any_true': [SIMD, 0x53],
  'i32x4.all_true': [SIMD, 0xa3, 0x01],
  'i32x4.bitmask': [SIMD, 0xa4, 0x01],
  'f32x4.add': [SIMD, 0xe4, 0x01],
  'f32x4.mul': [SIMD, 0xe6, 0x01],
  'f32x4.pmin': [SIMD, 0xea, 0x01],
  'f32x4.pmax': [SIMD, 0xeb, 0x01],
};

/**
 * Text of a function -> a module that exports it as `run`, with its `memory`; `shared` memory is that of threads, and is
 * imported as `shared.memory`.
 */
export function assemble(
  text: string,
  { memory = 'own' }: { readonly memory?: 'own' | 'shared' } = {},
): Uint8Array {
  const [, ...parts] = parse(text);
  const declared = (kind: string) => parts.filter((part) => part[0] === kind) as string[][];
  const params = declared('param');
  const locals = declared('local');
  const names = [...params, ...locals].map(([, name]) => name!);
  const body = parts.slice(params.length + locals.length);
  const types = (list: readonly string[][]) => list.map(([, , type]) => TYPES[type!]!);
  const code = [
    ...vector(types(locals).map((type) => [1, type])),
    ...body.flatMap((node) => encode(node, names, [])),
    END,
  ];
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00],
    ...section(1, [0x60, ...vector(types(params).map((type) => [type])), 0]),
    ...(memory === 'shared'
      ? section(2, [...name('shared'), ...name('memory'), MEMORY, SHARED, 0, ...unsigned(MOST_PAGES)])
      : []),
    ...section(3, [0]),
    ...(memory === 'own' ? section(5, [0, 1]) : []),
    ...sectionOf(7, [
      [...name('memory'), MEMORY, 0],
      [...name('run'), FUNCTION, 0],
    ]),
    ...section(10, [...unsigned(code.length), ...code]),
  ]);
}

function parse(text: string): readonly Node[] {
  const open: Node[][] = [[]];
  for (const [token] of text.replace(/;;.*/g, '').matchAll(/[()]|[^\s()]+/g)) {
    if (token === '(') open.push([]);
    else if (token === ')') open[open.length - 2]!.push(open.pop()!);
    else open[open.length - 1]!.push(token);
  }
  return open[0]![0] as readonly Node[];
}

/** One folded instruction: its operands, then itself. `labels` are those of the blocks around it, the innermost last. */
function encode(node: Node, names: readonly string[], labels: readonly string[]): number[] {
  const [op, ...rest] = node as [string, ...Node[]];
  const inner = (nodes: readonly Node[], within = labels) =>
    nodes.flatMap((part) => encode(part, names, within));
  const opcode = OPCODES[op];
  if (!opcode) throw new RangeError(`no opcode for ${op}`);
  if (op === 'if') {
    const [condition, then] = rest as [Node, readonly Node[]];
    return [...inner([condition]), ...opcode, NO_RESULT, ...inner(then.slice(1), [...labels, '']), END];
  }
  const [first, ...operands] = rest;
  if (op === 'block' || op === 'loop') {
    return [...opcode, NO_RESULT, ...inner(operands, [...labels, first as string]), END];
  }
  if (typeof first !== 'string') return [...inner(rest), ...opcode, ...memoryAccess(op)];
  return [...inner(operands), ...opcode, ...immediate(op, first, names, labels)];
}

/** What stands behind an opcode that a word follows: a label, the name of a local, a number or a lane. */
function immediate(op: string, word: string, names: readonly string[], labels: readonly string[]): number[] {
  if (op.startsWith('br')) return unsigned(labels.length - 1 - labels.lastIndexOf(word));
  if (op.startsWith('local')) return unsigned(names.indexOf(word));
  if (op === 'f32.const')
    return [...new Uint8Array(Float32Array.of(Number(word.replace('inf', 'Infinity'))).buffer)];
  return op === 'i32.const' ? signed(Number(word)) : unsigned(Number(word));
}

/** Alignment (none promised) and offset. */
function memoryAccess(op: string): number[] {
  return op.endsWith('load') || op.endsWith('store') ? [0, 0] : [];
}

function section(id: number, only: readonly number[]): number[] {
  return sectionOf(id, [only]);
}

function sectionOf(id: number, items: readonly (readonly number[])[]): number[] {
  const content = vector(items);
  return [id, ...unsigned(content.length), ...content];
}

function vector(items: readonly (readonly number[])[]): number[] {
  return [...unsigned(items.length), ...items.flat()];
}

function name(text: string): number[] {
  return [...unsigned(text.length), ...new TextEncoder().encode(text)];
}

/** LEB128 */
function unsigned(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...unsigned(value >>> 7)];
}

function signed(value: number): number[] {
  const low = value & 0x7f;
  const rest = value >> 7;
  return rest === (low & 0x40 ? -1 : 0) ? [low] : [low | 0x80, ...signed(rest)];
}
