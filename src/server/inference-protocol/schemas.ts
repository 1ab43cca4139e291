import Type, { type Static } from 'typebox';
import { MAX_ID, MAX_NAME, MAX_RANK, MAX_TENSORS } from './limits.js';

const closed = { additionalProperties: false } as const;
const name = Type.String({ minLength: 1, maxLength: MAX_NAME });
const size = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
const shape = Type.Array(size, { maxItems: MAX_RANK });

const binarySize = Type.Object(
  { binary_data_size: Type.Optional(Type.Integer({ ...size, description: 'Bytes after the JSON.' })) },
  closed,
);

const RequestInput = Type.Object(
  {
    name,
    shape,
    datatype: Type.String({ maxLength: MAX_NAME }),
    parameters: Type.Optional(binarySize),
    data: Type.Optional(
      Type.Unknown({ description: 'Values, flat in row-major order or nested as the shape is.' }),
    ),
  },
  closed,
);

const RequestOutput = Type.Object(
  { name, parameters: Type.Optional(Type.Object({ binary_data: Type.Optional(Type.Boolean()) }, closed)) },
  closed,
);

const RequestParameters = Type.Object(
  {
    timeout: Type.Optional(
      Type.Integer({ ...size, description: "Microseconds; 0 stands for the server's own timeout." }),
    ),
    priority: Type.Optional(
      Type.Integer({ minimum: 0, maximum: 5, description: '1 is the highest, 5 the lowest, 0 the default.' }),
    ),
    binary_data_output: Type.Optional(
      Type.Boolean({ description: 'All outputs as binary data, unless an output says otherwise.' }),
    ),
    sequence_id: Type.Optional(
      Type.Union([Type.Integer(), Type.String({ maxLength: MAX_NAME })], {
        description: 'Only 0 or "": there are no stateful models.',
      }),
    ),
    sequence_start: Type.Optional(Type.Boolean()),
    sequence_end: Type.Optional(Type.Boolean()),
  },
  closed,
);

/** Tensor data is left out: it is checked in a loop of its own, against datatype and shape. */
export const InferRequestSchema = Type.Object(
  {
    id: Type.Optional(Type.String({ maxLength: MAX_ID })),
    model_name: Type.Optional(name),
    parameters: Type.Optional(RequestParameters),
    inputs: Type.Array(RequestInput, { minItems: 1, maxItems: MAX_TENSORS }),
    outputs: Type.Optional(Type.Array(RequestOutput, { maxItems: MAX_TENSORS })),
  },
  closed,
);

export type InferRequestBody = Static<typeof InferRequestSchema>;
export type RequestInputBody = InferRequestBody['inputs'][number];

export const InferResponseSchema = Type.Object({
  model_name: name,
  model_version: Type.String(),
  id: Type.Optional(Type.String()),
  outputs: Type.Array(
    Type.Object({
      name,
      shape,
      datatype: Type.String(),
      parameters: Type.Optional(binarySize),
      data: Type.Optional(Type.Array(Type.Number(), { description: 'Values in row-major order.' })),
    }),
  ),
});

export const ErrorSchema = Type.Object({ error: Type.String({ description: 'CODE: message' }) });
export const LiveSchema = Type.Object({ live: Type.Boolean() });
export const ReadySchema = Type.Object({ ready: Type.Boolean() });
export const ModelReadySchema = Type.Object({ name, ready: Type.Boolean() });

export const ServerMetadataSchema = Type.Object({
  name: Type.String(),
  version: Type.String(),
  extensions: Type.Array(Type.String()),
});

const TensorMetadata = Type.Object({
  name,
  datatype: Type.String(),
  shape: Type.Array(Type.Integer(), { description: '-1 where a dimension is free.' }),
});

export const ModelMetadataSchema = Type.Object({
  name,
  versions: Type.Array(Type.String()),
  platform: Type.String(),
  inputs: Type.Array(TensorMetadata),
  outputs: Type.Array(TensorMetadata),
});

export const ModelParams = Type.Object({ name: Type.String() });
export const VersionParams = Type.Object({ name: Type.String(), version: Type.String() });
export const InferHeaders = Type.Object({
  'inference-header-content-length': Type.Optional(
    Type.String({
      pattern: '^[0-9]+$',
      description: 'Bytes of JSON, where binary tensors follow it; 0: the body is the one input alone.',
    }),
  ),
});
