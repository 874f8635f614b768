// time limit: 120 s
import type { ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ErrorCode, isShoalError } from '../../shim/base/errors.ts';
import type { PeerOptions } from '../../shim/peer/transfer-engine.ts';
import { type Misbehave, sampleBlob } from '../support/blob-origin.ts';
import { PeerWorld, pull } from '../support/peer-nodes.ts';
import { Pacer } from '../support/real/pacer.ts';

const MB = 1e6;
/** What a slow link brings, bytes a second. */
const RATE = 8 * MB;
/** More than four chunks take at this rate, and much less than the layers before the last one do. */
const STALL_MS = 2_000;
/** Each takes 1.8 seconds. */
const LAYERS = 4;
const LAYER_BYTES = 14 * MB;
const WRITE_BYTES = 64 * 1024;

/** An origin behind a slow link, which all requests share. */
function slowLink(blobs: ReadonlyMap<string, Buffer>): Misbehave {
  const pacer = new Pacer(RATE);
  const send = async (body: Buffer, response: ServerResponse): Promise<void> => {
    response.writeHead(206, { 'content-length': body.length });
    for (let at = 0; at < body.length && !response.destroyed; at += WRITE_BYTES) {
      const part = body.subarray(at, at + WRITE_BYTES);
      await sleep(pacer.delayMs(part.length, performance.now()));
      response.write(part);
    }
    response.end();
  };
  return (incoming, response) => {
    const [, first = 0, last = 0] = /^bytes=(\d+)-(\d+)$/.exec(incoming.headers.range ?? '') ?? [];
    const bytes = blobs.get(incoming.url?.slice(1) ?? '') as Buffer;
    void send(bytes.subarray(Number(first), Number(last) + 1), response);
    return true;
  };
}

function sampleLayers() {
  const layers = Array.from({ length: LAYERS }, () => sampleBlob(LAYER_BYTES));
  return { layers, byDigest: new Map(layers.map(({ bytes, digest }) => [String(digest), bytes])) };
}

for (const [name, peers] of [
  ['without peers', undefined],
  ['with nobody else there', {}],
] as const) {
  test(`a layer that waits behind others at a slow origin is not stalled: ${name}`, async () => {
    const { layers, byDigest } = sampleLayers();
    await PeerWorld.run(layers, async (world) => {
      world.origin.misbehave = slowLink(byDigest);
      const limits = { blobStallMs: STALL_MS, originReadsMax: 2 };
      const node = await world.addNode({ limits, ...(peers === undefined ? { alone: true } : { peers }) });
      await Promise.all(layers.map((layer) => pull(node, layer)));
    });
  });
}

test('a layer that waits behind others at a slow peer is not stalled', async () => {
  const { layers } = sampleLayers();
  await PeerWorld.run(layers, async (world) => {
    const holder = await world.addNode({ limits: { uploadBytesPerSecond: RATE } });
    for (const layer of layers) await pull(holder, layer);
    const peers: Partial<PeerOptions> = { mayReadOrigin: false };
    const node = await world.addNode({ limits: { blobStallMs: STALL_MS }, peers });
    await Promise.all(layers.map((layer) => pull(node, layer)));
    assert.is(holder.engine.counters.servedBytes, LAYERS * LAYER_BYTES);
  });
});

test('a layer is stalled when those before it get nothing either', async () => {
  const { layers } = sampleLayers();
  await PeerWorld.run(layers, async (world) => {
    world.origin.misbehave = () => true;
    const node = await world.addNode({ limits: { blobStallMs: STALL_MS } });
    const startMs = performance.now();
    const ends = await Promise.allSettled(layers.map((layer) => pull(node, layer)));
    assert.ok(performance.now() - startMs < 2 * STALL_MS);
    for (const end of ends)
      assert.ok(end.status === 'rejected' && isShoalError(end.reason, ErrorCode.Stalled), String(end.status));
  });
});

test.run();
