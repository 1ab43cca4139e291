import type { FastifyError } from 'fastify';
import { type ErrorCode, TurnoutError } from '../errors.js';

/** HTTP statuses of errors; 500 for those that are not listed: nothing that a client sends should bring them about. */
const STATUS: Partial<Record<ErrorCode, number>> = {
  TURNOUT_OPTIONS_INVALID: 400,
  TURNOUT_PRESET_UNKNOWN: 400,
  TURNOUT_EXPERTS_INVALID: 400,
  TURNOUT_CHOICES_INVALID: 400,
  TURNOUT_CAPACITY_INVALID: 400,
  TURNOUT_SHAPE_MISMATCH: 400,
  TURNOUT_LOGITS_INVALID: 422,
  TURNOUT_OUTPUT_NOT_FINITE: 422,
  TURNOUT_INPUT_INVALID: 400,
  TURNOUT_ROUTER_NOT_CAUSAL: 400,
  TURNOUT_CONTEXT_EXCEEDED: 400,
  TURNOUT_CACHE_EXCEEDED: 400,
  TURNOUT_REQUEST_INVALID: 400,
  TURNOUT_UNSUPPORTED: 400,
  TURNOUT_UNAUTHORIZED: 401,
  TURNOUT_FORBIDDEN: 403,
  TURNOUT_NOT_FOUND: 404,
  TURNOUT_REQUEST_TOO_LARGE: 413,
  TURNOUT_MEDIA_TYPE_UNSUPPORTED: 415,
  TURNOUT_RATE_LIMITED: 429,
  TURNOUT_OVERLOADED: 429,
  // Nobody reads it: the client went away. nginx has made the number known.
  TURNOUT_ABORTED: 499,
  TURNOUT_QUEUE_TIMEOUT: 503,
  TURNOUT_CLOSED: 503,
  TURNOUT_LANE_DIED: 503,
  TURNOUT_EXPERT_LOST: 503,
  TURNOUT_DEADLINE_EXCEEDED: 504,
};

/** What fastify itself refuses, by its code. */
const FASTIFY: Readonly<Record<string, ErrorCode>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: 'TURNOUT_REQUEST_TOO_LARGE',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'TURNOUT_MEDIA_TYPE_UNSUPPORTED',
  FST_ERR_NOT_FOUND: 'TURNOUT_NOT_FOUND',
  FST_ERR_MAX_PARAM_LENGTH: 'TURNOUT_NOT_FOUND',
};

export function statusOf({ code }: TurnoutError): number {
  return STATUS[code] ?? 500;
}

/** Any error as one of ours; those that nobody foresaw say nothing of the inside. */
export function asTurnoutError(error: unknown): TurnoutError {
  if (error instanceof TurnoutError) return error;
  const { code, statusCode, message } = error as Partial<FastifyError>;
  if (code !== undefined && code in FASTIFY) return new TurnoutError(FASTIFY[code]!, message ?? code);
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) {
    return new TurnoutError(
      'TURNOUT_REQUEST_INVALID',
      message ?? 'the request cannot be read',
      {},
      { cause: error },
    );
  }
  return new TurnoutError('TURNOUT_INTERNAL', 'the server failed; its log says how', {}, { cause: error });
}

/** OpenAI's kinds of errors, by status. */
function kindOf(status: number): string {
  if (status === 401) return 'authentication_error';
  if (status === 403) return 'permission_error';
  if (status === 404) return 'not_found_error';
  if (status === 429) return 'rate_limit_error';
  return status < 500 ? 'invalid_request_error' : 'server_error';
}

/** The body of an error in OpenAI's shape; `param` is the field that is wrong, where there is one. */
export function openaiError(error: TurnoutError): object {
  const { code, message, details } = error;
  return { error: { message, type: kindOf(statusOf(error)), param: paramOf(details), code } };
}

/** The field that an error is about: named by who threw it, or by the place where the schema did not fit. */
function paramOf({ param, path }: TurnoutError['details']): string | null {
  if (typeof param === 'string') return param;
  return typeof path === 'string' && path !== '' ? path.slice(1).replaceAll('/', '.') : null;
}

/** The body of an error in the shape of the Open Inference Protocol. */
export function inferenceError({ code, message }: TurnoutError): object {
  return { error: `${code}: ${message}` };
}
