/** Started by `turnout doctor` for each device: a driver that crashes takes only this process with it. */
import { parseDevice } from '../experts/device.js';
import { runTrial } from '../experts/device-trial.js';

const [device, model] = process.argv.slice(2);
process.stdout.write(JSON.stringify(await runTrial(parseDevice(device!), model!)));
