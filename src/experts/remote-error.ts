import { TurnoutError } from '../errors.js';

/** An error as plain data: structured clones keep neither the class nor the code of one. */
export interface RemoteError {
  readonly message: string;
  readonly stack?: string;
  /** Only of a TurnoutError. */
  readonly code?: TurnoutError['code'];
  readonly details?: TurnoutError['details'];
}

/** What a lane answers: its result, or why there is none. */
export type Answer<T> = { readonly value: T } | { readonly error: RemoteError };

/** Runs a task of a lane; what it throws becomes part of the answer. */
export async function answer<T>(task: () => Promise<T>): Promise<Answer<T>> {
  try {
    return { value: await task() };
  } catch (error) {
    return { error: describe(error) };
  }
}

/** The value of an answer; throws its error with code, details and the lane's stack. */
export function unwrap<T>(answered: Answer<T>): T {
  if ('value' in answered) return answered.value;
  throw revive(answered.error);
}

export function revive({ code, message, details, stack }: RemoteError): Error {
  const error = code ? new TurnoutError(code, message, details) : new Error(message);
  if (stack !== undefined) error.stack = stack;
  return error;
}

export function describe(error: unknown): RemoteError {
  if (!(error instanceof Error)) return { message: String(error) };
  const { message, stack } = error;
  const plain = stack === undefined ? { message } : { message, stack };
  return error instanceof TurnoutError ? { ...plain, code: error.code, details: error.details } : plain;
}
