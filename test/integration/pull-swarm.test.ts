// time limit: 90 s
import { closeSync, openSync, readdirSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Digest } from '../../shim/base/digest.ts';
import { type Agent, pullToEnd, startAgent } from '../support/agent.ts';
import { type Badness, BadPeer } from '../support/bad-peer.ts';
import type { BuiltImage } from '../support/images/build-image.ts';
import { buildSampleImage } from '../support/images/samples.ts';
import { startOriginSite, startPeers } from '../support/pull-site.ts';
import { canRun, componentsAvailable } from '../support/real/components.ts';

const MB = 1_000_000;

if (canRun(componentsAvailable('registry'))) {
  test('four agents at once read each byte about once from the origin', async () => {
    await using origin = await startOriginSite({ rateBytesPerSecond: 10 * MB });
    using image = await buildSampleImage({ layerSizesBytes: [10 * MB, 10 * MB, 10 * MB, 8 * MB] });
    const { reference } = await origin.push(image, 'team/app');
    await using peers = await startPeers(['one', 'two', 'three', 'four']);
    origin.gate.reset();
    const ends = await Promise.all(peers.agents.map((agent) => pullToEnd(agent.pull(reference))));
    const { bytes } = origin.gate.count({ class: 'blob' });
    process.stdout.write(
      `origin ${bytes} of ${image.layerBytes} bytes, ${ends.map((end) => end.seconds.toFixed(1))} s\n`,
    );
    assert.ok(bytes <= 1.05 * image.layerBytes, `${(bytes / image.layerBytes).toFixed(3)} × the image`);
    for (const agent of peers.agents) assertLayerFiles(agent, image);
  });

  test('a corrupt cache file of one agent: what it serves is found wrong or not served, the pull succeeds', async () => {
    await using origin = await startOriginSite();
    using image = await buildSampleImage({ layerSizesBytes: [20 * MB], seed: 'corrupt' });
    const { reference } = await origin.push(image, 'team/app');
    await using peers = await startPeers(['rotten', 'sound']);
    const [rotten, sound] = peers.agents as [Agent, Agent];
    await pullToEnd(rotten.pull(reference));
    for (const { digest, size } of image.layers) spoil(layerFile(rotten, digest), size);
    origin.gate.setRate(5 * MB);
    const end = await pullToEnd(sound.pull(reference));
    process.stdout.write(`from the rotten peer ${end.counts.peerBytes} bytes\n`);
    assertLayerFiles(sound, image);
  });

  for (const badness of ['lying', 'poisoning', 'flaky', 'silent'] as const satisfies readonly Badness[])
    test(`a pull beside a ${badness} peer succeeds`, async () => {
      await using origin = await startOriginSite({ rateBytesPerSecond: 10 * MB });
      using image = await buildSampleImage({ layerSizesBytes: [20 * MB], seed: badness });
      const { reference } = await origin.push(image, 'team/app');
      const [, layer] = image.layers;
      const digest = (layer?.digest ?? '') as Digest;
      const bytes = readFileSync(image.blobPath(digest));
      const bad = await BadPeer.start(badness, { digest, bytes }, origin.gate.host);
      try {
        await using agent = await startAgent({ name: 'good', peers: [bad.self] });
        // Whoever ranks lower dials; the bad peer does not wait for that.
        if (badness !== 'silent') await bad.visit(agent.peerAddress);
        const end = await pullToEnd(agent.pull(reference));
        process.stdout.write(`${badness}: ${bad.requests} requests, ${end.seconds.toFixed(1)} s\n`);
        if (badness !== 'silent') assert.ok(bad.requests > 0, 'nothing was asked of it');
        assertLayerFiles(agent, image);
      } finally {
        await bad.close();
      }
    });
}

test.run();

/** The layer as the layout store keeps it. */
function layerFile(agent: Agent, digest: string): string {
  return join(agent.directory, 'layout/blobs/sha256', digest.slice('sha256:'.length));
}

/** The files are as they were built, and there is one root. */
function assertLayerFiles(agent: Agent, image: BuiltImage): void {
  for (const { digest } of image.layers)
    assert.ok(
      readFileSync(layerFile(agent, digest)).equals(readFileSync(image.blobPath(digest))),
      agent.name,
    );
  assert.is(readdirSync(join(agent.directory, 'layout/rootfs')).length, 1);
}

/** Other bytes in the middle of each chunk, in the one inode that cache and store have. */
function spoil(path: string, sizeBytes: number): void {
  const file = openSync(path, 'r+');
  for (let offset = 1000; offset < sizeBytes; offset += 2 ** 20) writeSync(file, 'spoilt', offset);
  closeSync(file);
}
