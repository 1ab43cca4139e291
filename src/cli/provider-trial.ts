/** Started by `turnout doctor` for each execution provider: a driver that crashes takes only this process with it. */
import { tryProvider } from '../experts/session.js';

const [provider, model] = process.argv.slice(2);
process.stdout.write(JSON.stringify(await tryProvider(provider!, model!)));
