import { MessageChannel } from 'node:worker_threads';

/*
 * ONNX Runtime gives each output in memory of its own. V8 counts it against a heap that is small beside it, so a thread
 * that only drops outputs collects its garbage at every large call, marking in as many threads as there are cores, while
 * the next outputs go to memory that no cache holds.
 */

const { port1: closed } = new MessageChannel();
closed.close();

/** Frees the memory of an array that nobody will use any more, now: it has no elements afterwards. Not for views of a part. */
export function discard({ buffer, byteLength }: Float32Array<ArrayBuffer>): void {
  // A closed port takes what is transferred, and drops it.
  if (byteLength > 0) closed.postMessage(undefined, [buffer]);
}
