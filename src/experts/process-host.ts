import { Socket } from 'node:net';
import { Host, type HostOptions, isOutOfMemory } from './host.js';
import { HOST_EXIT, LINK } from './spawn.js';

/*
 * The program of an expert process: a host behind one link, the descriptor that its carrier handed down. It ends with
 * the link, so it does not outlive the other side; where it cannot look, for it computes or was stopped, the kernel
 * ends it (see spawn.ts).
 */

// A Ctrl-C in the terminal and a stopped service reach all processes; only the one that owns this one decides.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});

const options = JSON.parse(process.argv[2]!) as HostOptions;
process.title = `turnout-expert ${options.device.name}`;

new Host(new Socket({ fd: LINK, readable: true, writable: true }), options, end);
process.on('uncaughtException', end);

function end(error?: Error): void {
  if (!error) process.exit(0);
  process.stderr.write(`${error.message}\n`);
  process.exit(isOutOfMemory(error) ? HOST_EXIT.outOfMemory : HOST_EXIT.badLink);
}
