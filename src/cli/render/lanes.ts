import type { LaneStats } from '../../experts/backend.js';
import type { Style } from './style.js';

/** What the processes of each device did, one line a device. */
export function drawDevices(lanes: readonly LaneStats[], style: Style): string {
  const devices = [...new Set(lanes.map(({ device }) => device))];
  const width = Math.max(...devices.map(({ length }) => length));
  const lines = devices.map((device) => {
    const own = lanes.filter((lane) => lane.device === device);
    const sum = (count: 'rows' | 'restarts') => own.reduce((all, lane) => all + lane[count], 0);
    const experts = new Set(own.flatMap((lane) => lane.experts)).size;
    const counts = `${counted(own.length, 'process', 'es')}, ${counted(experts, 'expert')}, ${counted(sum('rows'), 'row')}`;
    return `${device.padEnd(width)}  ${counts}, ${counted(sum('restarts'), 'restart')}`;
  });
  return [style.dim('what each device computed'), ...lines].join('\n');
}

function counted(count: number, what: string, plural = 's'): string {
  return `${count} ${what}${count === 1 ? '' : plural}`;
}
