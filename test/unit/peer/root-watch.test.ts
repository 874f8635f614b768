import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { NodeRole, RootWatch } from '../../../shim/peer/root-watch.ts';

const MINUTE_MS = 60_000;

test('a root reads the origin whatever it knows', () => {
  const watch = new RootWatch(true);
  watch.setMembers(3, 0);
  watch.connected('a:1', NodeRole.Root, 0);
  assert.ok(watch.mayReadOrigin(0));
  assert.is(watch.role(0), NodeRole.Root);
  assert.not(watch.wantsToAsk(0));
});

test('an agent alone reads the origin, and one with members waits for the first word of them', () => {
  const watch = new RootWatch(false);
  assert.ok(watch.mayReadOrigin(0));
  watch.setMembers(2, 0);
  assert.not(watch.mayReadOrigin(1999));
  assert.is(watch.nextChangeMs(0), 2000);
  assert.ok(watch.wantsToAsk(0));
  assert.ok(watch.mayReadOrigin(2000), 'nobody answers');
});

test('agents among themselves read the origin', () => {
  const watch = new RootWatch(false);
  watch.setMembers(2, 0);
  watch.connected('a:1', NodeRole.Agent, 10);
  assert.ok(watch.mayReadOrigin(10));
  assert.is(watch.role(10), NodeRole.Agent);
});

test('an agent that met a root, or heard of one, does not read the origin', () => {
  for (const role of [NodeRole.Root, NodeRole.AgentWithRoot]) {
    const watch = new RootWatch(false);
    watch.setMembers(2, 0);
    watch.connected('a:1', role, 10);
    assert.not(watch.mayReadOrigin(10));
    assert.not(watch.mayReadOrigin(9 * MINUTE_MS));
  }
});

test('hearsay is not passed on, so that it ends', () => {
  const watch = new RootWatch(false);
  watch.setMembers(2, 0);
  watch.connected('a:1', NodeRole.AgentWithRoot, 0);
  assert.is(watch.role(1), NodeRole.Agent);
  watch.connected('b:1', NodeRole.Root, 1);
  assert.is(watch.role(1), NodeRole.AgentWithRoot);
});

test('roots that are gone for ten minutes are roots no more', () => {
  const watch = new RootWatch(false);
  watch.setMembers(2, 0);
  watch.connected('a:1', NodeRole.Root, 0);
  assert.not(watch.mayReadOrigin(60 * MINUTE_MS), 'it is connected still');
  watch.disconnected('a:1', 60 * MINUTE_MS);
  assert.not(watch.mayReadOrigin(69 * MINUTE_MS));
  const atMs = watch.nextChangeMs(69 * MINUTE_MS) ?? 0;
  assert.ok(watch.mayReadOrigin(atMs));
  assert.is(watch.nextChangeMs(atMs), undefined);
});

test.run();
