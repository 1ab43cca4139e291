import { Type } from 'typebox';
import { checker } from '../schema.js';
import { type FrameHeader, TensorMeta } from './frames.js';
import type { RemoteError } from './remote-error.js';

/*
 * The conversation over one link. The carrier asks, numbering from 1; the process answers each request once, in order.
 *
 *   hold    the experts to hold from now on    -> held     H, provider, memory
 *   run     batches, x [rows, H]               -> ran      y [rows, H]
 *   cancel  nobody waits for run `of` any more    (no answer)
 *   close   end after what came before         -> closed, and the process ends
 *
 * Any of them but cancel may be answered with `failed` and an error.
 */

const Natural = Type.Integer({ minimum: 0 });
const exact = { additionalProperties: false } as const;
const NoTensors = Type.Array(TensorMeta, { maxItems: 0 });
const OneTensor = Type.Array(TensorMeta, { minItems: 1, maxItems: 1 });

/** An expert as a process holds it. */
const HeldFile = Type.Object(
  {
    /** Names this version of the expert in `run`. */
    key: Natural,
    path: Type.String(),
    /** The marks of the files when the version was taken in (see versions.ts): other files are not this version. */
    marks: Type.Record(Type.String(), Type.String()),
  },
  exact,
);

/** Bytes; `private` are those that no other process shares, where the system tells. */
const Memory = Type.Object({ rss: Natural, private: Type.Union([Natural, Type.Null()]) }, exact);

const Request = Type.Union([
  Type.Object(
    { id: Natural, op: Type.Literal('hold'), tensors: NoTensors, files: Type.Array(HeldFile) },
    exact,
  ),
  Type.Object(
    {
      id: Natural,
      op: Type.Literal('run'),
      tensors: OneTensor,
      /** [key, rows] in the order of the rows of x. */
      batches: Type.Array(Type.Tuple([Natural, Type.Integer({ minimum: 1 })])),
    },
    exact,
  ),
  Type.Object({ id: Natural, op: Type.Literal('cancel'), tensors: NoTensors, of: Natural }, exact),
  Type.Object({ id: Natural, op: Type.Literal('close'), tensors: NoTensors }, exact),
]);

const Answer = Type.Union([
  Type.Object(
    {
      id: Natural,
      op: Type.Literal('held'),
      tensors: NoTensors,
      hidden: Type.Integer({ minimum: 1 }),
      memory: Memory,
    },
    exact,
  ),
  Type.Object(
    {
      id: Natural,
      op: Type.Literal('ran'),
      tensors: OneTensor,
      batches: Natural,
      rows: Natural,
      computeMs: Type.Number({ minimum: 0 }),
      memory: Memory,
    },
    exact,
  ),
  Type.Object({ id: Natural, op: Type.Literal('closed'), tensors: NoTensors }, exact),
  Type.Object(
    {
      id: Natural,
      op: Type.Literal('failed'),
      tensors: NoTensors,
      error: Type.Unsafe<RemoteError>(Type.Object({ message: Type.String() })),
    },
    exact,
  ),
]);

export const parseRequest = checker(Request, 'TURNOUT_FRAME_INVALID', 'request');
export const parseAnswer = checker(Answer, 'TURNOUT_FRAME_INVALID', 'answer');
export type ProcessRequest = ReturnType<typeof parseRequest>;
export type ProcessAnswer = ReturnType<typeof parseAnswer>;
export type ProcessMemory = Extract<ProcessAnswer, { op: 'held' }>['memory'];
export type HeldExpert = Extract<ProcessRequest, { op: 'hold' }>['files'][number];
/** A message without what the frame adds. */
export type Message<M extends FrameHeader> = M extends FrameHeader ? Omit<M, 'tensors'> : never;
