import type { EngineThread } from '../model/engine-thread.js';
import type { Admission } from './admission.js';
import type { ServerMetrics } from './metrics.js';
import type { Observer } from './observed.js';
import type { CheckedOptions } from './options.js';
import type { Recordings } from './recordings.js';

/** What the endpoints of a server share. */
export interface ServerContext {
  readonly engine: EngineThread;
  readonly admission: Admission;
  readonly metrics: ServerMetrics;
  readonly observer: Observer;
  readonly recordings: Recordings;
  /** Names of the presets that fit the package. */
  readonly presets: readonly string[];
  readonly options: CheckedOptions;
  /** Of turnout. */
  readonly version: string;
  /** Milliseconds since 1970. */
  readonly startedAt: number;
  /** Whether the server takes work: not before it listens, and not once it is told to stop. */
  ready(): boolean;
}
