/**
 * Every error that turnout throws, in one table: code -> what it means and what to do.
 * The message of a thrown error adds the numbers: what was expected and what came.
 * `docs/errors.md` lists the same codes; a test fails when the two differ.
 */
export const ERROR_CODES = {
  TURNOUT_OPTIONS_INVALID:
    'An option has a value or a combination that cannot be used. Correct it as the message says.',
  TURNOUT_PRESET_UNKNOWN: 'No preset has this name. Choose one of the names in the message.',
  TURNOUT_EXPERTS_INVALID:
    'The number of experts cannot be used: at least one is needed, and groups must divide it.',
  TURNOUT_CHOICES_INVALID:
    'k, the choices per token, must be a whole number from 1 to the number of experts.',
  TURNOUT_CAPACITY_INVALID:
    'A capacity factor must be above zero; leave the capacity out for dropless routing.',
  TURNOUT_SHAPE_MISMATCH: 'A tensor has another shape or length than the model or the call asks for.',
  TURNOUT_LOGITS_INVALID:
    'Logits hold NaN, +infinity, or a row of only -infinity. A single -infinity means: never this expert.',
  TURNOUT_INPUT_INVALID: 'Input data is missing, of the wrong type, or out of range.',
  TURNOUT_MANIFEST_INVALID: 'The manifest does not follow the package format. The message names the place.',
  TURNOUT_PACKAGE_FILE_MISSING: 'A file that the package needs is not there. Copy the whole package again.',
  TURNOUT_PACKAGE_PATH_OUTSIDE:
    'A path in the package leads out of its folder. Do not use packages that do this.',
  TURNOUT_PACKAGE_SIZE_MISMATCH:
    'A file of the package has another length than its manifest says. Copy it again.',
  TURNOUT_PACKAGE_CHECKSUM_MISMATCH:
    'A file of the package was changed: its SHA-256 is not the one of the manifest. Copy it again.',
  TURNOUT_PACKAGE_SHAPE_MISMATCH:
    'A tensor in an ONNX file of the package has another shape than the manifest says.',
  TURNOUT_PACKAGE_FILE_INVALID: 'A file of the package cannot be read as what the manifest says that it is.',
  TURNOUT_ROUTER_NOT_CAUSAL:
    'Generation needs a causal routing rule: a token must not depend on later tokens or other sequences.',
  TURNOUT_CONTEXT_EXCEEDED: 'The prompt and the tokens asked for are longer than the context of the model.',
  TURNOUT_CACHE_EXCEEDED: 'The sequence needs more cache blocks than the engine may ever have.',
  TURNOUT_FILE_MISSING: 'A file is not there or cannot be read. Check the path in the message.',
  TURNOUT_EXPERT_INVALID:
    'An expert file has other inputs or outputs than x [n, H] -> y [n, H] in float32, or gives another number of rows.',
  TURNOUT_SESSION_FAILED:
    'ONNX Runtime could not open or run a graph. The message gives the file and its reason.',
  TURNOUT_LANE_DIED:
    'A lane ended while it computed. It is replaced: the call can be made again, for experts are pure.',
  TURNOUT_EXPERT_LOST:
    "An expert cannot be had on any lane: all attempts failed. Try again later, add replicas, or open with `onLostExpert: 'drop'`, which does without experts that are not shared.",
  TURNOUT_EXPERT_CHANGED:
    'The files of an expert are not those of the version asked for. Put new files under new names and hand them to update.',
  TURNOUT_FRAME_INVALID:
    'Bytes between a carrier and an expert process are no valid frame. The link is closed and the process replaced.',
  TURNOUT_ABORTED: 'The call was aborted through its signal.',
  TURNOUT_DEADLINE_EXCEEDED: 'The call took longer than it was given. Give it more time or less work.',
  TURNOUT_CLOSED: 'It was closed before this call. Open a new one.',
  TURNOUT_DEVICE_UNAVAILABLE: 'The device cannot be had here. `turnout doctor` tells what this machine has.',
  TURNOUT_REQUEST_INVALID:
    'The request cannot be read: malformed JSON, a field that is unknown or of the wrong type, or bytes that are not what its headers say.',
  TURNOUT_REQUEST_TOO_LARGE:
    'The request, or the answer that it asks for, is larger than the server allows. Send less at a time.',
  TURNOUT_MEDIA_TYPE_UNSUPPORTED: 'The body has a content type that this endpoint does not take.',
  TURNOUT_UNSUPPORTED:
    'The request asks for something that this server or this package does not have, as the message says.',
  TURNOUT_NOT_FOUND: 'There is no endpoint, model, version or recording of this name.',
  TURNOUT_UNAUTHORIZED: 'The request needs an API key: `Authorization: Bearer KEY`.',
  TURNOUT_FORBIDDEN:
    "The request comes from another site than the server's own, names another host, or asks for what its key does not open.",
  TURNOUT_RATE_LIMITED:
    'Too many requests in a short time from this key or address. Try again after Retry-After seconds.',
  TURNOUT_OVERLOADED:
    'The queue of the server, the streams of events, or the bodies of all clients together are at their bound. Try again after Retry-After seconds.',
  TURNOUT_QUEUE_TIMEOUT:
    'The request waited in the queue for as long as the server lets one wait. Try again after Retry-After seconds.',
  TURNOUT_OUTPUT_NOT_FINITE:
    'An output holds NaN or infinity, which JSON cannot say. Ask for it as binary data.',
  TURNOUT_INTERNAL: 'An error that nobody foresaw; the log of the server has it whole. Please report it.',
} as const;

export type ErrorCode = keyof typeof ERROR_CODES;

/** An error with a stable `code` (see ERROR_CODES) and, in `details`, the numbers that the message names. */
export class TurnoutError extends Error {
  override readonly name = 'TurnoutError';

  constructor(
    readonly code: ErrorCode,
    message: string,
    readonly details: Readonly<Record<string, unknown>> = {},
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}
