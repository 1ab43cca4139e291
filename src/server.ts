/** turnout over HTTP: `serve` opens a package in a thread of its own and answers for it (docs/http.md). */
export type { ServerOptions } from './server/options.js';
export type { Recording } from './server/recordings.js';
export { type ServeOptions, type Server, serve } from './server/serve.js';
