import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { BanList } from '../../../shim/swarm/ban-list.ts';
import { rankByRendezvous } from '../../../shim/swarm/rendezvous.ts';

const peers = Array.from({ length: 50 }, (_, index) => `10.0.0.${index}:65002`);

test('rankByRendezvous() does not depend on the order of the members', () => {
  assert.equal(rankByRendezvous('key', peers, 3), rankByRendezvous('key', [...peers].reverse(), 3));
});

test('rankByRendezvous() moves only the keys of a member that leaves', () => {
  const gone = peers[7] as string;
  const rest = peers.filter((peer) => peer !== gone);
  for (let key = 0; key < 200; key++) {
    const before = rankByRendezvous(`key ${key}`, peers, 3);
    const after = rankByRendezvous(`key ${key}`, rest, 3);
    assert.equal(after.slice(0, 2), before.filter((peer) => peer !== gone).slice(0, 2));
  }
});

test('rankByRendezvous() spreads keys over the members', () => {
  const counts = new Map<string, number>();
  for (let key = 0; key < 5000; key++) {
    const [best] = rankByRendezvous(`sha256:${key}`, peers, 1);
    counts.set(best as string, (counts.get(best as string) ?? 0) + 1);
  }
  assert.is(counts.size, peers.length);
  assert.ok(Math.max(...counts.values()) < 200, `most keys at one member: ${Math.max(...counts.values())}`);
});

test('BanList: a ban ends by itself, and the oldest goes when the list is full', () => {
  const bans = new BanList({ banMs: 1000, bansMax: 2 });
  bans.ban('a', 0);
  assert.ok(bans.isBanned('a', 999));
  assert.not.ok(bans.isBanned('a', 1000));
  for (const peer of ['a', 'b', 'c']) bans.ban(peer, 2000);
  assert.equal(
    ['a', 'b', 'c'].map((peer) => bans.isBanned(peer, 2001)),
    [false, true, true],
  );
});

test.run();
