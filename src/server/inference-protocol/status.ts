import { type ErrorCode, TurnoutError } from '../../errors.js';

const STATUS: Partial<Record<ErrorCode, number>> = {
  TURNOUT_REQUEST_TOO_LARGE: 413,
  TURNOUT_MEDIA_TYPE_UNSUPPORTED: 415,
  TURNOUT_MODEL_UNKNOWN: 404,
  TURNOUT_ENDPOINT_UNKNOWN: 404,
  TURNOUT_REQUEST_INVALID: 400,
  TURNOUT_INPUT_INVALID: 400,
  TURNOUT_SHAPE_MISMATCH: 400,
  TURNOUT_OUTPUT_NOT_FINITE: 400,
  TURNOUT_LOGITS_INVALID: 400,
  TURNOUT_CONTEXT_EXCEEDED: 400,
  TURNOUT_CACHE_EXCEEDED: 400,
};

export function statusOf(error: unknown): number {
  if (error instanceof TurnoutError) return STATUS[error.code] ?? 500;
  return (error as { statusCode?: number }).statusCode ?? 500;
}
