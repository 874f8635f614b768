import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { DEFAULT_LIMITS } from '../../../shim/swarm/limits.ts';
import { UploadSlots } from '../../../shim/swarm/upload-slots.ts';

const { uploadSlots, uploadSlotsForImports, uploadSlotsForSlow, uploadSlowMs } = DEFAULT_LIMITS;

function takeAll(slots: UploadSlots, peer: string, count: number, nowMs: number): number {
  let taken = 0;
  for (let id = 0; id < count; id += 1) if (slots.take(peer, id, nowMs) === undefined) taken += 1;
  return taken;
}

test('who finds no slot is told when to ask again, and a slot that is free is given', () => {
  const slots = new UploadSlots(DEFAULT_LIMITS);
  assert.is(takeAll(slots, 'a', uploadSlots + 1, 0), uploadSlots);
  assert.ok((slots.take('b', 1, 0) as number) >= DEFAULT_LIMITS.busyHintMinMs);
  slots.release('a', 0, 100);
  assert.is(slots.take('b', 1, 100), undefined);
});

test('nodes of other zones have a slot besides', () => {
  const slots = new UploadSlots(DEFAULT_LIMITS);
  takeAll(slots, 'a', uploadSlots, 0);
  assert.type(slots.take('b', 1, 0), 'number');
  for (let id = 0; id < uploadSlotsForImports; id += 1) assert.is(slots.take('far', id, 0, true), undefined);
  assert.type(slots.take('far', 9, 0, true), 'number');
});

test('peers that do not take their chunks keep the slots from nobody for long, and cannot pile up chunks', () => {
  const slots = new UploadSlots(DEFAULT_LIMITS);
  assert.is(takeAll(slots, 'frozen', 64, 0), uploadSlots);
  assert.is(takeAll(slots, 'asker', 64, uploadSlowMs - 1), 0);
  assert.is(takeAll(slots, 'asker', 64, uploadSlowMs), uploadSlotsForSlow);
  assert.is(takeAll(slots, 'other', 64, 10 * uploadSlowMs), 0, 'as many slow ones as there are places for');
  assert.is(slots.used, uploadSlots + uploadSlotsForSlow);
});

test('where every chunk takes long, none is slow', () => {
  const slots = new UploadSlots(DEFAULT_LIMITS);
  for (let id = 0; id < 100; id += 1) {
    slots.take('a', id, 0);
    slots.release('a', id, 3 * uploadSlowMs);
  }
  takeAll(slots, 'a', uploadSlots, 0);
  assert.type(slots.take('b', 1, 3 * uploadSlowMs), 'number');
});

test.run();
