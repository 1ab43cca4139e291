// An expert process that dies of a value: rows that begin with 666.
import { Socket } from 'node:net';
import { Host } from '../../dist/src/experts/host.js';
import { InlineBackend } from '../../dist/src/experts/inline.js';

const compute = InlineBackend.prototype.compute;
InlineBackend.prototype.compute = function (expert, x) {
  if (x[0] === 666) process.abort();
  return compute.call(this, expert, x);
};
new Host(new Socket({ fd: 3, readable: true, writable: true }), JSON.parse(process.argv[2]), () => process.exit());
