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
