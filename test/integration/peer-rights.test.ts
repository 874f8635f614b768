import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ErrorCode, ShoalError } from '../../shim/base/errors.ts';
import { sampleBlob } from '../support/blob-origin.ts';
import { PeerCertificates } from '../support/peer-certificates.ts';
import { HOST, type NodeOptions, type PeerNode, PeerWorld, pull } from '../support/peer-nodes.ts';
import type { RogueOrder, RogueReport } from '../support/rogue-peer.ts';

const MIB = 1024 * 1024;
const ROGUE = resolve(import.meta.dirname, '../support/rogue-peer.ts');
/** Long enough for two challenges, and for hundreds of requests. */
const ATTACK_MS = 5_000;

const refused = () =>
  Promise.reject(new ShoalError(ErrorCode.Unauthorized, 'Cannot read blob: 401, credentials wanted'));

/** Starts a rogue, makes it a member, and lets it try for a while, or until it got all of the blob. */
async function attack(world: PeerWorld, order: RogueOrder): Promise<RogueReport> {
  const rogue: ChildProcess = fork(ROGUE, [JSON.stringify(order)]);
  try {
    const [{ self }] = (await once(rogue, 'message')) as [{ self: string }];
    world.addStranger(self);
    rogue.send('go');
    return await reportOf(rogue, order.sizeBytes);
  } finally {
    rogue.kill();
  }
}

async function reportOf(rogue: ChildProcess, enoughBytes: number): Promise<RogueReport> {
  const endMs = performance.now() + ATTACK_MS;
  for (;;) {
    const [{ report }] = (await once(rogue, 'message')) as [{ report: RogueReport }];
    if (report.chunkBytes >= enoughBytes || performance.now() > endMs) return report;
  }
}

/** A holder of a private blob, a node that may read it and is about to, and a rogue. */
async function robbery(
  trick: RogueOrder['trick'],
  check: (report: RogueReport, holder: PeerNode) => void,
): Promise<void> {
  using certificates = await PeerCertificates.create();
  const blob = sampleBlob(9 * MIB);
  await PeerWorld.run([blob], async (world) => {
    const limits = { originBytesPerSecond: 1e6 };
    const holder = await world.addNode({ peers: { transport: await certificates.transport() } });
    await pull(holder, blob);
    const victim = await world.addNode({ limits, peers: { transport: await certificates.transport() } });
    const transfer = victim.open(blob);
    const report = await attack(world, {
      trick,
      holder: holder.self,
      victim: victim.self,
      key: { host: HOST, digest: blob.digest },
      sizeBytes: blob.bytes.length,
      tls: await certificates.issue(),
      documents: trick === 'entitled' ? [blob.digest, 'a config'] : [blob.digest],
    });
    await transfer.finished;
    transfer.release();
    check(report, holder);
  });
}

for (const trick of ['asks', 'guesses', 'relays'] as const)
  test(`a rogue agent with a valid certificate and every public digest receives 0 bytes: it ${trick}`, async () => {
    await robbery(trick, (report, holder) => {
      assert.is(report.chunkBytes, 0, JSON.stringify(report));
      assert.ok(report.requests > 100 && report.refusals > 100, JSON.stringify(report));
      assert.ok(report.challenges > 0, 'it was asked for pieces of the blob');
      assert.ok(holder.engine.counters.unprovenRequests > 100);
      if (trick === 'relays')
        assert.ok(report.caught > 0, 'the victim told it nothing that it could pass on');
      if (trick === 'guesses') assert.ok(holder.engine.counters.wrongProofs > 0);
    });
  });

test('the same program with the documents of the image receives the blob', async () => {
  await robbery('entitled', (report) => assert.ok(report.chunkBytes >= 9 * MIB, JSON.stringify(report)));
});

/** Pulls on one node, then on another, and gives what came to the second, and over which way it read its origin. */
async function share(first: NodeOptions['right'], second: NodeOptions['right']) {
  const blob = sampleBlob(9 * MIB + 5);
  const found = { peerBytes: 0, originBytes: 0, originRequests: 0 };
  await PeerWorld.run([blob], async (world) => {
    const holder = await world.addNode(first === undefined ? {} : { right: first });
    const peers = { mayReadOrigin: false };
    const asker = await world.addNode(second === undefined ? { peers } : { right: second, peers });
    await pull(holder, blob);
    const before = world.origin.requests;
    found.peerBytes = (await pull(asker, blob)).peerBytes;
    found.originBytes = asker.engine.counters.originBytes;
    found.originRequests = world.origin.requests - before;
  });
  return found;
}

test('nodes with the same image share without a word to the registry', async () => {
  assert.equal(await share('image', 'image'), { peerBytes: 9 * MIB + 5, originBytes: 0, originRequests: 0 });
});

test('what the registry gives to everybody is shared without a proof', async () => {
  assert.equal(await share('anonymous', 'none'), {
    peerBytes: 9 * MIB + 5,
    originBytes: 0,
    originRequests: 0,
  });
});

for (const [first, second] of [
  ['image', 'other image'],
  ['image', 'none'],
  ['none', 'image'],
  ['none', 'none'],
] as const)
  test(`nodes that came by ${first} and ${second} share after a few small reads at the registry`, async () => {
    const found = await share(first, second);
    assert.is(found.peerBytes, 9 * MIB + 5);
    assert.ok(found.originRequests > 0 && found.originRequests <= 9, `${found.originRequests} requests`);
    assert.is(found.originBytes, found.originRequests * 32 * 1024);
  });

test('a node whose registry refuses it gets nothing from peers either', async () => {
  const blob = sampleBlob(9 * MIB);
  await PeerWorld.run([blob], async (world) => {
    const holder = await world.addNode();
    const asker = await world.addNode({ right: 'none' });
    await pull(holder, blob);
    const transfer = asker.open(blob, refused);
    const failure = await transfer.finished.catch((error) => error);
    transfer.release();
    assert.is(failure.code, ErrorCode.Unauthorized);
    assert.is(holder.engine.counters.servedBytes, 0);
    assert.ok(holder.engine.counters.unprovenRequests > 0, 'it never asked');
  });
});

test('a right that a node had before it was restarted is still known to it', async () => {
  const blob = sampleBlob(5 * MIB);
  await PeerWorld.run([blob], async (world) => {
    const rightsPath = `${world.directory}/rights`;
    const holder = await world.addNode({ peers: { rightsPath } });
    await pull(holder, blob);
    await holder.close();
    await world.addNode({ peers: { rightsPath } }, holder);
    const asker = await world.addNode({ peers: { mayReadOrigin: false } });
    assert.is((await pull(asker, blob)).peerBytes, blob.bytes.length);
    assert.is(asker.engine.counters.originBytes, 0);
  });
});

test.run();
