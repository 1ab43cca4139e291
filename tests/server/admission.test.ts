import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { TurnoutError } from '#turnout/errors.js';
import { Admission, type AdmissionOptions, type Need, type Place } from '#turnout/server/admission.js';

const LIMITS: AdmissionOptions = { running: 2, queue: 8, queueDelayMs: 60_000, blocks: 10 };
const one: Need = { sequences: 1, blocks: 1, priority: 3 };
const never = new AbortController().signal;
const patient = { signal: never, waitMs: 600_000 };

/** What became of an entry, so far. */
function track(entering: Promise<Place>) {
  const entry = { state: 'waits', place: undefined as Place | undefined };
  entering.then(
    (place) => Object.assign(entry, { state: 'in', place }),
    (error: TurnoutError) => Object.assign(entry, { state: error.code }),
  );
  return entry;
}

const turn = () => sleep(0);

describe('admission', () => {
  it('lets in by priority, then by arrival', async () => {
    const admission = new Admission({ ...LIMITS, running: 1 });
    const first = await admission.enter(one, patient);
    const order: string[] = [];
    const enter = async (name: string, priority: number) => {
      const place = await admission.enter({ ...one, priority }, patient);
      order.push(name);
      place.release();
    };
    const all = [enter('c', 3), enter('d', 3), enter('e', 5), enter('a', 1), enter('b', 1)];
    expect(admission.waiting).toBe(5);
    first.release();
    await Promise.all(all);
    expect(order).toEqual(['a', 'b', 'c', 'd', 'e']);
  });

  it('has the first in line wait for its whole need, and nobody overtake it', async () => {
    const admission = new Admission(LIMITS);
    const running = await admission.enter(one, patient);
    const large = track(admission.enter({ ...one, sequences: 2 }, patient));
    const small = track(admission.enter(one, patient));
    await turn();
    expect([large.state, small.state, admission.running]).toEqual(['waits', 'waits', 1]);
    running.release();
    await turn();
    expect([large.state, small.state, admission.running]).toEqual(['in', 'waits', 2]);
  });

  it('lets those behind in when a large one at the front gives up', async () => {
    const admission = new Admission(LIMITS);
    await admission.enter(one, patient);
    const gone = new AbortController();
    const large = track(admission.enter({ ...one, blocks: 10 }, { ...patient, signal: gone.signal }));
    const small = track(admission.enter(one, patient));
    gone.abort();
    await turn();
    expect([large.state, small.state]).toEqual(['TURNOUT_ABORTED', 'in']);
  });

  it.each<[Partial<Need>, string]>([
    [{ blocks: 11 }, 'TURNOUT_CACHE_EXCEEDED'],
    [{ sequences: 3 }, 'TURNOUT_REQUEST_TOO_LARGE'],
  ])('refuses what can never fit: %o', async (need, code) => {
    const admission = new Admission(LIMITS);
    await expect(admission.enter({ ...one, ...need }, patient)).rejects.toMatchObject({ code });
    expect([admission.running, admission.waiting]).toEqual([0, 0]);
  });

  it('refuses those behind a full queue, and takes who fits without one', async () => {
    const admission = new Admission({ ...LIMITS, queue: 1 });
    const places = [await admission.enter(one, patient), await admission.enter(one, patient)];
    const waiting = track(admission.enter(one, patient));
    await expect(admission.enter(one, patient)).rejects.toMatchObject({ code: 'TURNOUT_OVERLOADED' });
    for (const { release } of places) release();
    await turn();
    expect(waiting.state).toBe('in');

    const direct = new Admission({ ...LIMITS, queue: 0 });
    await direct.enter(one, patient);
    await direct.enter(one, patient);
    await expect(direct.enter(one, patient)).rejects.toMatchObject({ code: 'TURNOUT_OVERLOADED' });
  });

  it.each([
    [{ queueDelayMs: 20 }, { waitMs: 60_000 }, 'TURNOUT_QUEUE_TIMEOUT'],
    [{ queueDelayMs: 60_000 }, { waitMs: 20 }, 'TURNOUT_DEADLINE_EXCEEDED'],
  ])('ends a wait after the shorter of both times: %o, %o', async (options, limits, code) => {
    const admission = new Admission({ ...LIMITS, running: 1, ...options });
    await admission.enter(one, patient);
    await expect(admission.enter(one, { ...patient, ...limits })).rejects.toMatchObject({ code });
    expect(admission.waiting).toBe(0);
  });

  it('counts a place once, however often it is released', async () => {
    const admission = new Admission(LIMITS);
    const place = await admission.enter(one, patient);
    await admission.enter(one, patient);
    place.release();
    place.release();
    expect(admission.running).toBe(1);
  });

  it('turns everybody away once closed, and closes when the last has left', async () => {
    const admission = new Admission({ ...LIMITS, running: 1 });
    const place = await admission.enter(one, patient);
    const waiting = track(admission.enter(one, patient));
    const closing = admission.close();
    const again = admission.close();
    await turn();
    expect(waiting.state).toBe('TURNOUT_CLOSED');
    await expect(admission.enter(one, patient)).rejects.toMatchObject({ code: 'TURNOUT_CLOSED' });
    const late = Promise.race([closing.then(() => 'closed'), sleep(20, 'open')]);
    expect(await late).toBe('open');
    place.release();
    await Promise.all([closing, again]);
  });

  it('tells refused clients to come back within a minute', async () => {
    const admission = new Admission(LIMITS);
    expect(admission.retryAfter).toBe(1);
    const place = await admission.enter(one, patient);
    await sleep(30);
    place.release();
    expect(admission.retryAfter).toBe(1);
  });
});

const steps = fc.array(
  fc.oneof(
    fc.record({
      kind: fc.constant('enter' as const),
      need: fc.record({
        sequences: fc.integer({ min: 1, max: 5 }),
        blocks: fc.integer({ min: 0, max: 12 }),
        priority: fc.integer({ min: 1, max: 5 }),
      }),
      waitMs: fc.constantFrom(1, 2, 600_000),
    }),
    fc.record({ kind: fc.constantFrom('leave' as const, 'abort' as const), which: fc.nat(30) }),
    fc.constant({ kind: 'pause' as const }),
  ),
  { maxLength: 60 },
);

describe('admission, whatever happens', () => {
  it('keeps its limits, loses no place, and lets nobody wait for ever', async () => {
    await fc.assert(
      fc.asyncProperty(steps, async (list) => {
        const admission = new Admission({ running: 4, queue: 6, queueDelayMs: 60_000, blocks: 10 });
        const entries: { need: Need; gone: AbortController; entry: ReturnType<typeof track> }[] = [];
        const inside = () => entries.filter(({ entry }) => entry.place);
        const check = () => {
          expect(admission.running).toBeLessThanOrEqual(4);
          expect(admission.waiting).toBeLessThanOrEqual(6);
          const blocks = inside().reduce((sum, { need }) => sum + need.blocks, 0);
          expect(blocks).toBeLessThanOrEqual(10);
        };
        for (const step of list) {
          if (step.kind === 'enter') {
            const gone = new AbortController();
            const limits = { signal: gone.signal, waitMs: step.waitMs };
            entries.push({ need: step.need, gone, entry: track(admission.enter(step.need, limits)) });
          } else if (step.kind === 'leave') leave(inside()[step.which % inside().length]);
          else if (step.kind === 'abort') entries[step.which % entries.length]?.gone.abort();
          else await sleep(1);
          check();
        }
        await drain(inside, () => admission.running + admission.waiting);
        expect([admission.running, admission.waiting]).toEqual([0, 0]);
        const everything = await admission.enter({ sequences: 4, blocks: 10, priority: 5 }, patient);
        expect(entries.map(({ entry }) => entry.state)).not.toContain('waits');
        everything.release();
      }),
      { numRuns: 150 },
    );
  });
});

type Inside = { readonly entry: { place: Place | undefined; state: string } };

function leave(who: Inside | undefined): void {
  if (!who) return;
  who.entry.place!.release();
  Object.assign(who.entry, { place: undefined, state: 'left' });
}

/** Everybody leaves as soon as it is in. */
async function drain(inside: () => readonly Inside[], left: () => number): Promise<void> {
  for (let i = 0; i < 200 && left() > 0; i++) {
    await turn();
    for (const who of inside()) leave(who);
  }
}
