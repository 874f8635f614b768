import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { BanList } from '../../../shim/swarm/ban-list.ts';
import { DEFAULT_LIMITS } from '../../../shim/swarm/limits.ts';
import { PeerTable } from '../../../shim/swarm/peer-table.ts';

const PEER = 'peer:1';
const { backOffMinMs, failuresMax } = DEFAULT_LIMITS;

function tableWithPeer(): PeerTable {
  const table = new PeerTable({
    self: 'self:1',
    limits: DEFAULT_LIMITS,
    bans: new BanList(DEFAULT_LIMITS),
    emit: () => {},
  });
  table.setMembers([{ peer: PEER, zone: '' }]);
  table.connected(PEER, '');
  return table;
}

function fail(table: PeerTable, times: number, nowMs: number): void {
  for (let count = 0; count < times; count++) table.failed(PEER, nowMs);
}

test('PeerTable: a peer is left alone after failures in a row, longer each time', () => {
  const table = tableWithPeer();
  fail(table, failuresMax - 1, 0);
  assert.ok(table.isUsable(PEER, 0));
  fail(table, 1, 0);
  assert.not(table.isUsable(PEER, backOffMinMs - 1));
  assert.ok(table.isUsable(PEER, backOffMinMs));
  fail(table, failuresMax, backOffMinMs);
  assert.not(table.isUsable(PEER, 3 * backOffMinMs - 1));
  assert.ok(table.isUsable(PEER, 3 * backOffMinMs));
});

test('PeerTable: requests that fail together are one reason to leave the peer alone', () => {
  const table = tableWithPeer();
  fail(table, 4 * failuresMax, 0);
  assert.ok(table.isUsable(PEER, backOffMinMs));
});

test('PeerTable: a peer that gives a chunk after all is no longer left alone', () => {
  const table = tableWithPeer();
  fail(table, failuresMax, 0);
  table.succeeded(PEER);
  assert.ok(table.isUsable(PEER, 0));
});

test.run();
