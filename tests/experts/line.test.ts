import { once } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';
import { MessageChannel, Worker } from 'node:worker_threads';
import { afterEach, describe, expect, test } from 'vitest';
import { Line, newBell } from '#turnout/experts/line.js';

/** Answers numbers with their doubles, or with the bytes on its heap, after as many milliseconds as `pauseMs` says. */
const ANSWERING = `
  const { workerData } = require('node:worker_threads');
  const { port, bell, lingers, line, pauseMs, answers } = workerData;
  const pause = new Int32Array(new SharedArrayBuffer(4));
  import(line).then(({ answerAll }) =>
    answerAll({ port, bell, lingers }, async (n) => {
      Atomics.wait(pause, 0, 0, pauseMs);
      return answers === 'heap' ? process.memoryUsage().heapUsed : 2 * n;
    }),
  );
`;
const LONG_MS = 10_000;

const workers: Worker[] = [];
afterEach(() => Promise.all(workers.splice(0).map((worker) => worker.terminate())));

async function lineTo(pauseMs: number): Promise<Line<number, number>> {
  return (await openLine(pauseMs, true)).line;
}

async function openLine(pauseMs: number, lingers: boolean, answers: 'double' | 'heap' = 'double') {
  const { port1, port2 } = new MessageChannel();
  const bell = newBell();
  const module = import.meta.resolve('#turnout/experts/line.js');
  const workerData = { port: port2, bell, lingers, line: module, pauseMs, answers };
  const worker = new Worker(ANSWERING, { eval: true, workerData, transferList: [port2] });
  workers.push(worker);
  await once(worker, 'online');
  const line = new Line<number, number>(port1, bell, () => new Error('the line is broken'));
  return { line, bell };
}

function within(ms: number): number {
  return performance.now() + ms;
}

test('answers are heard before the event loop takes another turn', async () => {
  const line = await lineTo(5);
  const answers = Promise.all([line.ask(1), line.ask(2)]);
  let turns = 0;
  setImmediate(() => turns++);
  line.listen()(within(LONG_MS));
  expect(await answers).toEqual([2, 4]);
  expect(turns).toBe(0);
});

test('what is asked later is not waited for', async () => {
  const line = await lineTo(50);
  const first = line.ask(1);
  const hear = line.listen();
  const heard: string[] = [];
  const second = line.ask(2).then(() => heard.push('second'));
  hear(within(LONG_MS));
  expect(await first).toBe(2);
  expect(heard).toEqual([]);
  await second;
});

test('an answer that comes after the deadline comes as an event', async () => {
  const line = await lineTo(200);
  const answer = line.ask(21);
  let answered = false;
  void answer.then(() => {
    answered = true;
  });
  line.listen()(within(1));
  await Promise.resolve();
  expect(answered).toBe(false);
  expect(await answer).toBe(42);
});

test('a line that breaks fails what waits and what is asked later, and nobody waits for it', async () => {
  const line = await lineTo(LONG_MS);
  const answer = line.ask(1);
  const hear = line.listen();
  line.break(new Error('gone'));
  const started = performance.now();
  hear(within(LONG_MS));
  expect(performance.now() - started).toBeLessThan(LONG_MS / 2);
  await expect(answer).rejects.toThrow('gone');
  await expect(line.ask(2)).rejects.toThrow('gone');
});

describe('after its answer', () => {
  const PAUSE_MS = 12;
  /** Where others compute as well, whoever looks often comes late. */
  const TRIES = 200;

  /** Takes the answer and wakes the thread once it sleeps. */
  async function answerOf({ line, bell }: Awaited<ReturnType<typeof openLine>>, n: number) {
    const answer = line.ask(n);
    line.listen()(within(LONG_MS));
    const heard = performance.now();
    while (Atomics.notify(bell, 0) === 0) await turn();
    const awakeMs = performance.now() - heard;
    return { answer: await answer, awakeMs };
  }

  /** Whether the other thread was, after one of some answers, awake for a time that fits; it sleeps after each in the end. */
  async function wasAwake(lingers: boolean, fits: (ms: number) => boolean): Promise<boolean> {
    const asked = await openLine(PAUSE_MS, lingers);
    for (let i = 0; i < TRIES; i++) if (fits((await answerOf(asked, i)).awakeMs)) return true;
    return false;
  }

  test('a thread with a core to itself stays awake for a share of what it took, and then sleeps', async () => {
    expect(await wasAwake(true, (ms) => ms > PAUSE_MS / 6)).toBe(true);
  });

  test('others sleep at once', async () => {
    expect(await wasAwake(false, (ms) => ms < PAUSE_MS / 12)).toBe(true);
  });

  test('waiting awake makes hardly any garbage', async () => {
    const asked = await openLine(0, true, 'heap');
    const bytes: number[] = [];
    for (let i = 0; i < TRIES; i++) bytes.push((await answerOf(asked, i)).answer);
    const grown = bytes.slice(1).map((after, i) => after - bytes[i]!);
    expect(grown.sort((a, b) => a - b)[TRIES >> 1]).toBeLessThan(32 * 1024);
  });
});
