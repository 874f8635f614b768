import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { dnsMembers, staticMembers } from '../../../shim/peer/membership.ts';
import { isLoopback, peerIdOf, speaksFor, splitPeerId } from '../../../shim/peer/peer-address.ts';
import type { Member } from '../../../shim/swarm/swarm-node.ts';

test('staticMembers() gives its list at once', () => {
  const seen: (readonly Member[])[] = [];
  staticMembers([{ peer: 'a:1', zone: 'z' }]).start((members) => seen.push(members));
  assert.equal(seen, [[{ peer: 'a:1', zone: 'z' }]]);
});

test('dnsMembers() makes a peer of each address, asks again, and keeps what it knows when a lookup fails', async () => {
  const answers = [['10.0.0.1', 'fd00::2'], new Error('SERVFAIL'), ['10.0.0.3']];
  const seen: string[][] = [];
  let asked = 0;
  const done = Promise.withResolvers<void>();
  const source = dnsMembers({
    name: 'peers.test',
    port: 65002,
    intervalMs: 1,
    random: () => 0.5,
    resolver: {
      services: () => Promise.reject(new Error('no SRV records were wanted')),
      addresses: async (name) => {
        assert.is(name, 'peers.test');
        const answer = answers[asked++];
        if (answer instanceof Error) throw answer;
        return answer ?? [];
      },
    },
  });
  // The timers of the source do not keep a process alive.
  const alive = setInterval(() => undefined, 1000);
  source.start((members) => {
    seen.push(members.map((member) => member.peer));
    if (seen.length === 2) done.resolve();
  });
  await done.promise;
  source.close();
  clearInterval(alive);
  assert.equal(seen, [['10.0.0.1:65002', '[fd00::2]:65002'], ['10.0.0.3:65002']]);
});

test('dnsMembers() makes a peer of each address behind each SRV record, with its port and names', async () => {
  const name = '_peer._tcp.peers.test';
  const source = dnsMembers({
    name,
    port: 1,
    resolver: {
      services: async () =>
        ['a', 'gone', 'b'].map((host, index) => ({ name: `${host}.test`, port: 7000 + index })),
      addresses: async (host) => {
        if (host === 'gone.test') throw new Error('NXDOMAIN');
        return host === 'a.test' ? ['10.0.0.1'] : ['fd00::2'];
      },
    },
  });
  const members = await new Promise<readonly Member[]>((resolve) => source.start(resolve));
  source.close();
  assert.equal(members, [
    { peer: '10.0.0.1:7000', zone: '', names: ['a.test', name] },
    { peer: '[fd00::2]:7002', zone: '', names: ['b.test', name] },
  ]);
});

test('peer names are split and joined again', () => {
  for (const [host, port] of [
    ['10.0.0.1', 1],
    ['fd00::2', 65_535],
    ['node-1.test', 65_002],
  ] as const)
    assert.equal(splitPeerId(peerIdOf(host, port)), { host, port });
  for (const name of ['10.0.0.1', 'a:0', 'a:70000', 'fd00::1', ':1', ''])
    assert.is(splitPeerId(name), undefined);
});

test('isLoopback() knows what only this machine reaches', () => {
  for (const host of ['127.0.0.1', '127.9.9.9', '::1', 'localhost']) assert.ok(isLoopback(host), host);
  for (const host of ['0.0.0.0', '::', '10.0.0.1', 'node.test']) assert.not(isLoopback(host), host);
});

test('speaksFor() lets a connection speak for the address that it comes from', () => {
  assert.ok(speaksFor('10.0.0.1', '10.0.0.1:65002'));
  assert.ok(speaksFor('::ffff:10.0.0.1', '10.0.0.1:65002'));
  assert.ok(speaksFor('10.0.0.1', 'node-1:65002'), 'names are not looked up');
  assert.not(speaksFor('10.0.0.2', '10.0.0.1:65002'));
  assert.not(speaksFor(undefined, '10.0.0.1:65002'));
});

test.run();
