import Type, { type TSchema } from 'typebox';

/* Schemas of answers, for /docs: what is sent is not checked against them again. */

/** An answer in JSON; its fields are told in docs/http.md where no schema is given. */
export function jsonAnswer(description: string, schema: TSchema = Type.Object({}), status = 200): object {
  return { [status]: { description, content: { 'application/json': { schema } } } };
}

/** An answer in another type of text. */
export function textAnswer(description: string, type: string): object {
  return { 200: { description, content: { [type]: { schema: Type.String() } } } };
}
