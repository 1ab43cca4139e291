/** Limits on what a request may hold; each can be set when the endpoints are made. */
export interface ProtocolLimits {
  /** Bytes of a body, binary tensors included. */
  readonly bodyBytes: number;
  /** Bytes of JSON: it is parsed in one go on the thread that answers everybody. Larger tensors go as binary data. */
  readonly jsonBytes: number;
}

export const DEFAULT_LIMITS: ProtocolLimits = {
  bodyBytes: 32 * 1024 * 1024,
  jsonBytes: 1024 * 1024,
};

/** Dimensions of a tensor, inputs and outputs of a request, characters of a name and an id: far above what models here have. */
export const MAX_RANK = 8;
export const MAX_TENSORS = 64;
export const MAX_NAME = 200;
export const MAX_ID = 1000;

/** Values of a tensor: one a byte in the largest body. Keeps products of dimensions exact. */
export const MAX_VALUES = 2 ** 31;
