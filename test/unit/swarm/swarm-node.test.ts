import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { measure } from '../../sim/measure.ts';
import { World } from '../../sim/world.ts';
import type { Fault, WorldOptions } from '../../sim/world-options.ts';

const MB = 1_000_000;
const FOUR_BLOBS = [50 * MB, 50 * MB, 50 * MB, 50 * MB];

/** Fast links, an origin of 25 MB/s: what a small office cluster looks like. */
const base: WorldOptions = {
  nodes: 4,
  blobSizesBytes: FOUR_BLOBS,
  seed: 1,
  upBytesPerSecond: 1000 * MB,
  downBytesPerSecond: 1000 * MB,
  originBytesPerSecond: 25 * MB,
  latencyMs: 0.2,
  originLatencyMs: 5,
  startSpreadMs: 20,
};

function finish(
  options: Partial<WorldOptions>,
  untilSeconds = 120,
): ReturnType<typeof measure> & { world: World } {
  const world = new World({ ...base, ...options });
  const isDone = world.run(untilSeconds * 1000);
  const open = world.nodes
    .filter((node) => node.isAlive && node.openBlobs.size > 0)
    .map((node) => node.index);
  assert.ok(
    isDone,
    `seed ${world.options.seed}: nodes ${open.join(' ')} never finished; ${[...world.notes].join(' ')}`,
  );
  return { ...measure(world), world };
}

const oneFault = (fault: Fault): Partial<WorldOptions> => ({ faults: [fault] });

test('SwarmNode: four nodes finish near the bound and read each byte once', () => {
  for (let seed = 1; seed <= 5; seed++) {
    const result = finish({ seed });
    assert.ok(result.maxSeconds <= 1.15 * result.boundSeconds, `max ${result.maxSeconds} s`);
    assert.ok(result.originOverImage <= 1.02, `origin ${result.originOverImage}`);
  }
});

test('SwarmNode: a lone node reads with the full origin in few requests', () => {
  const result = finish({ nodes: 1 });
  assert.ok(result.maxSeconds <= 1.02 * result.boundSeconds);
  assert.ok(result.world.counts.originRequests <= 8);
});

test('SwarmNode: the same seed gives the same trace, another seed another', () => {
  const hashes = [7, 7, 8].map((seed) => finish({ nodes: 8, seed }).traceHash);
  assert.is(hashes[0], hashes[1]);
  assert.is.not(hashes[0], hashes[2]);
});

test('SwarmNode: the crash of any one node early in the pull stops nobody and costs little origin', () => {
  for (let node = 0; node < 6; node++) {
    const result = finish({ nodes: 6, ...oneFault({ kind: 'crash', atMs: 2000, node }) });
    assert.ok(result.maxSeconds <= 1.6 * result.boundSeconds, `node ${node}: ${result.maxSeconds} s`);
    assert.ok(result.originOverImage <= 1.25, `node ${node}: origin ${result.originOverImage}`);
  }
});

test('SwarmNode: a directory that is away while others come, and then back, does not have all read again', () => {
  const links = { upBytesPerSecond: 12.5 * MB, downBytesPerSecond: 12.5 * MB };
  for (let node = 0; node < 8; node++) {
    const away = oneFault({ kind: 'freeze', atMs: 10, untilMs: 2310, node });
    const result = finish({ nodes: 8, blobSizesBytes: [200 * MB], ...links, ...away });
    assert.ok(result.originOverImage <= 1.35, `node ${node}: origin ${result.originOverImage}`);
    assert.ok(result.maxSeconds <= 1.2 * result.boundSeconds, `node ${node}: ${result.maxSeconds} s`);
  }
});

test('SwarmNode: who reads several leases in a row of a slow origin keeps them until the chunks have come', () => {
  // A first chunk takes longer than a lease lasts unless it is renewed.
  for (const seed of [1, 2]) {
    const slow = { originBytesPerSecond: 2 * MB, latencyMs: 50, startSpreadMs: 1500 };
    const result = finish({ nodes: 8, seed, ...slow }, 400);
    assert.ok(result.originOverImage <= 1.02, `seed ${seed}: origin ${result.originOverImage}`);
    assert.ok(result.maxSeconds <= 1.02 * result.boundSeconds, `seed ${seed}: ${result.maxSeconds} s`);
  }
});

test('SwarmNode: a node whose link gets slow finds out how long chunks take now, and does not give up on all of them', () => {
  const links = { upBytesPerSecond: 125 * MB, downBytesPerSecond: 125 * MB, originBytesPerSecond: 250 * MB };
  for (const seed of [1, 2, 3]) {
    const slow = oneFault({ kind: 'slowLink', atMs: 500, untilMs: 600_000, node: 5, share: 0.02 });
    const result = finish({ nodes: 6, seed, blobSizesBytes: [400 * MB], ...links, ...slow }, 400);
    const wastedMb = result.world.counts.wastedBytes / MB;
    assert.ok(wastedMb <= 60, `seed ${seed}: ${wastedMb} MB came in vain`);
    assert.ok(result.originOverImage <= 1.1, `seed ${seed}: origin ${result.originOverImage}`);
  }
});

test('SwarmNode: a frozen node with leases is worked around', () => {
  for (let node = 0; node < 4; node++) {
    const fault: Fault = { kind: 'freeze', atMs: 1000, untilMs: 200_000, node };
    const world = new World({ ...base, faults: [fault] });
    world.run(60_000);
    const others = world.nodes.filter((other) => other.index !== node);
    assert.ok(
      others.every((other) => other.doneMs !== undefined && other.doneMs < 25_000),
      `frozen ${node}: ${others.map((other) => other.doneMs)} ${[...world.notes].join(' ')}`,
    );
  }
});

test('SwarmNode: a peer that serves wrong bytes is banned and everybody else still finishes', () => {
  const { world, originOverImage } = finish({ nodes: 6, ...oneFault({ kind: 'lie', atMs: 0, node: 2 }) });
  assert.ok((world.notes.get('banned') ?? 0) >= 1);
  // The liar itself, whom nobody talks to any longer, reads a copy of its own; what it had read is read again.
  assert.ok(originOverImage <= 2.2, `origin ${originOverImage}`);
  // Each node asks it a few times at once before the first wrong chunk shows, and never again.
  const asked = world.counts.peerBytes / (200 * MB);
  assert.ok(asked < 6, `peer bytes ${asked}`);
});

test('SwarmNode: a peer that is always busy delays nobody for long', () => {
  const result = finish({ nodes: 5, ...oneFault({ kind: 'busy', atMs: 0, node: 1 }) });
  // What only it holds is read at the origin again once nobody has got anything for a while.
  assert.ok(result.maxSeconds <= 3 * result.boundSeconds, `${result.maxSeconds} s`);
});

test('SwarmNode: both sides of a partition finish, and reads stay near two copies', () => {
  const result = finish({
    nodes: 8,
    ...oneFault({ kind: 'partition', atMs: 1000, untilMs: 600_000, node: 4 }),
  });
  assert.ok(result.originOverImage <= 2.6, `origin ${result.originOverImage}`);
});

test('SwarmNode: a partition that heals leaves one swarm', () => {
  const result = finish({ nodes: 8, ...oneFault({ kind: 'partition', atMs: 1000, untilMs: 4000, node: 4 }) });
  assert.ok(result.originOverImage <= 1.6, `origin ${result.originOverImage}`);
});

test('SwarmNode: an origin that refuses for a while is not stormed', () => {
  const fault: Fault = { kind: 'originDown', atMs: 0, untilMs: 5000, retryAfterMs: 1000 };
  const { world, originOverImage } = finish({ nodes: 8, faults: [fault] });
  assert.ok(originOverImage <= 1.05, `origin ${originOverImage}`);
  assert.ok(world.counts.originRequests < 250, `requests ${world.counts.originRequests}`);
});

test('SwarmNode: a late joiner is served by the others without the origin', () => {
  const { world, originOverImage } = finish({ nodes: 5, startMs: new Map([[4, 20_000]]) });
  const late = world.nodes[4];
  assert.ok(((late?.doneMs ?? Number.NaN) - 20_000) / 1000 < 2, `late ${late?.doneMs}`);
  assert.ok(originOverImage <= 1.02);
});

test('SwarmNode: seeds alone are enough', () => {
  const startMs = new Map([1, 2, 3].map((node) => [node, 1000]));
  const { originOverImage } = finish({ nodes: 4, seeds: [0], startMs, originBytesPerSecond: 1 * MB });
  assert.ok(originOverImage === 0, `origin ${originOverImage}`);
});

test('SwarmNode: nodes that do not want a blob get none of it', () => {
  const { world, originOverImage } = finish({ nodes: 12, idle: [0, 1, 2, 3, 4, 5, 6, 7] });
  assert.ok(world.counts.peerBytes <= 3.05 * 200 * MB);
  assert.ok(originOverImage <= 1.02);
});

test('SwarmNode: nodes that may not read the origin leave it to the others', () => {
  const { originOverImage } = finish({ nodes: 4, mayNotReadOrigin: [0, 1, 3] });
  assert.ok(originOverImage <= 1.02, `origin ${originOverImage}`);
});

test('SwarmNode: a swarm of a hundred keeps to one copy from the origin', () => {
  const fast = { upBytesPerSecond: 125 * MB, downBytesPerSecond: 125 * MB, originBytesPerSecond: 500 * MB };
  const result = finish({ nodes: 100, blobSizesBytes: [150 * MB], startSpreadMs: 500, ...fast });
  assert.ok(result.originOverImage <= 1.01, `origin ${result.originOverImage}`);
  assert.ok(result.maxSeconds <= 2.5 * result.boundSeconds, `max ${result.maxSeconds}`);
});

test.run();
