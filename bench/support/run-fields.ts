import Type from 'typebox';

/** What every report says of its run: `environment` before it, how long it took, and the load after it. */
export const runFields = {
  date: Type.String(),
  seconds: Type.Number(),
  hardware: Type.Record(Type.String(), Type.Unknown()),
  versions: Type.Record(Type.String(), Type.String()),
  loadAverage: Type.Array(Type.Number()),
  loadAverageAfter: Type.Array(Type.Number()),
};
