import { Type } from 'typebox';
import { checker } from '../schema.js';
import type { Device } from './device.js';
import { type FrameHeader, TensorMeta } from './frames.js';
import type { RemoteError } from './remote-error.js';

/*
 * The conversation over one link. The carrier asks, numbering from 1; the process answers each request once, in order.
 *
 *   open    the experts to hold                -> opened   H
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

const Request = Type.Union([
  Type.Object(
    {
      id: Natural,
      op: Type.Literal('open'),
      tensors: NoTensors,
      files: Type.Array(Type.Object({ expert: Natural, path: Type.String() }, exact), { minItems: 1 }),
      residency: Type.Enum(['mapped', 'packed']),
      hidden: Type.Union([Natural, Type.Null()]),
      /** Folder for profiles. */
      profile: Type.Union([Type.String(), Type.Null()]),
      device: Type.Unsafe<Device>(Type.Object({ name: Type.String(), provider: Type.String() })),
    },
    exact,
  ),
  Type.Object(
    {
      id: Natural,
      op: Type.Literal('run'),
      tensors: OneTensor,
      /** [expert, rows] in the order of the rows of x. */
      batches: Type.Array(Type.Tuple([Natural, Type.Integer({ minimum: 1 })])),
    },
    exact,
  ),
  Type.Object({ id: Natural, op: Type.Literal('cancel'), tensors: NoTensors, of: Natural }, exact),
  Type.Object({ id: Natural, op: Type.Literal('close'), tensors: NoTensors }, exact),
]);

const Answer = Type.Union([
  Type.Object({ id: Natural, op: Type.Literal('opened'), tensors: NoTensors, hidden: Natural }, exact),
  Type.Object(
    {
      id: Natural,
      op: Type.Literal('ran'),
      tensors: OneTensor,
      batches: Natural,
      rows: Natural,
      computeMs: Type.Number({ minimum: 0 }),
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
/** A message without what the frame adds. */
export type Message<M extends FrameHeader> = M extends FrameHeader ? Omit<M, 'tensors'> : never;
