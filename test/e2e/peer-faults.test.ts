// time limit: 180 s
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { dnsMembers } from '../../shim/peer/membership.ts';
import { type SampleBlob, sampleBlob } from '../support/blob-origin.ts';
import { freePort } from '../support/free-port.ts';
import { type HolderProcess, startHolder } from '../support/holder-process.ts';
import { digestOfFile, type PeerNode, PeerWorld, pull } from '../support/peer-nodes.ts';

const MIB = 1024 * 1024;
const BLOB_BYTES = 40 * MIB;
/** Of each holder: a pull takes about three seconds. */
const RATE = 8e6;
/** So slow that most bytes come from peers. */
const ORIGIN_RATE = 3e6;
/** From a fault until bytes come again. */
const RECOVERY_MAX_MS = 3_000;

interface Site {
  readonly world: PeerWorld;
  readonly blob: SampleBlob;
  readonly taker: PeerNode;
  readonly holders: readonly HolderProcess[];
}

/** Two holders in processes of their own, the first one maybe behind something, and a node that wants what they hold. */
async function withHolders(
  behind: { readonly self: string; readonly port: number } | undefined,
  body: (site: Site) => Promise<void>,
): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'shoal-holders-'));
  const blob = sampleBlob(BLOB_BYTES);
  const file = join(directory, 'blob');
  writeFileSync(file, blob.bytes);
  const holders: HolderProcess[] = [];
  try {
    for (const name of ['one', 'two']) {
      const place = name === 'one' && behind !== undefined ? { behind } : {};
      holders.push(
        await startHolder({ file, directory: join(directory, name), uploadBytesPerSecond: RATE, ...place }),
      );
    }
    await PeerWorld.run([blob], async (world) => {
      const taker = await world.addNode({ limits: { originBytesPerSecond: ORIGIN_RATE } });
      for (const holder of holders) world.addStranger(holder.self);
      const all = [taker.self, ...holders.map((holder) => holder.self)];
      for (const holder of holders) holder.tellMembers(all);
      await body({ world, blob, taker, holders });
    });
  } finally {
    for (const { child } of holders) child.kill('SIGKILL');
    rmSync(directory, { recursive: true });
  }
}

/** Pulls, strikes when an eighth has come from peers, and gives the longest time after that in which no byte came. */
async function longestGapMs({ taker, blob }: Site, strike: () => unknown): Promise<number> {
  const transfer = taker.open(blob);
  const bytes = () => transfer.counts.peerBytes + transfer.counts.originBytes;
  let [gapMs, lastBytes, lastMs, struck] = [0, 0, performance.now(), false];
  const look = setInterval(() => {
    const nowMs = performance.now();
    if (bytes() !== lastBytes || !struck) [lastBytes, lastMs] = [bytes(), nowMs];
    gapMs = Math.max(gapMs, nowMs - lastMs);
    if (struck || transfer.counts.peerBytes < BLOB_BYTES / 8) return;
    struck = true;
    strike();
  }, 20);
  try {
    await transfer.finished;
  } finally {
    clearInterval(look);
  }
  assert.ok(struck, 'the pull ended before anything went wrong');
  assert.is(digestOfFile(transfer.path), blob.digest);
  transfer.release();
  return gapMs;
}

for (const [signal, what] of [
  ['SIGKILL', 'killed'],
  ['SIGSTOP', 'frozen'],
] as const)
  test(`a pull goes on within 3 s when a peer is ${what}`, async () => {
    await withHolders(undefined, async (site) => {
      const gapMs = await longestGapMs(site, () => site.holders[0]?.child.kill(signal));
      assert.ok(gapMs <= RECOVERY_MAX_MS, `${Math.round(gapMs)} ms without a byte`);
    });
  });

test('a pull whose two peers are both frozen goes on within 12 s: each is given up in turn, then the origin is left', async () => {
  await withHolders(undefined, async (site) => {
    const gapMs = await longestGapMs(site, () => {
      for (const { child } of site.holders) child.kill('SIGSTOP');
    });
    // Twice: until the peers are given up, and until it is this node's turn at the origin.
    assert.ok(gapMs <= 4 * RECOVERY_MAX_MS, `${Math.round(gapMs)} ms without a byte`);
    assert.ok(site.taker.engine.counters.originBytes > 0);
  });
});

test('a pull goes on within 3 s when the link to a peer is cut without a word', async () => {
  const port = await freePort();
  const link = await Link.open(port);
  await withHolders({ self: link.self, port }, async (site) => {
    const gapMs = await longestGapMs(site, () => link.cut());
    assert.ok(link.carriedBytes > 0, 'nothing went over the link');
    assert.ok(gapMs <= RECOVERY_MAX_MS, `${Math.round(gapMs)} ms without a byte`);
  });
  await link.close();
});

test('a pull goes on within 3 s of the return of its registry', async () => {
  const blob = sampleBlob(BLOB_BYTES);
  await PeerWorld.run([blob], async (world) => {
    const taker = await world.addNode({ limits: { originBytesPerSecond: 16e6 } });
    let backMs = 0;
    const transfer = taker.open(blob);
    await new Promise<void>((resolve) => transfer.onPrefix((prefix) => prefix > BLOB_BYTES / 4 && resolve()));
    world.origin.misbehave = (request) => request.socket.destroy() !== undefined;
    world.origin.hangUp();
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    world.origin.misbehave = () => false;
    backMs = performance.now();
    const before = transfer.counts.originBytes;
    while (transfer.counts.originBytes === before) await new Promise((resolve) => setTimeout(resolve, 20));
    const gapMs = performance.now() - backMs;
    await transfer.finished;
    transfer.release();
    assert.ok(gapMs <= RECOVERY_MAX_MS, `${Math.round(gapMs)} ms without a byte`);
  });
});

test('peers that are known stay known when DNS is gone, and are found when it comes', async () => {
  const blob = sampleBlob(5 * MIB);
  await PeerWorld.run([blob], async (world) => {
    const holder = await world.addNode();
    const port = Number(holder.self.split(':')[1]);
    let [asked, isUp] = [0, false];
    const resolver = {
      services: () => Promise.resolve([]),
      addresses: () => {
        asked += 1;
        return isUp ? Promise.resolve(['127.0.0.1']) : Promise.reject(new Error('SERVFAIL'));
      },
    };
    const until = async (count: number) => {
      while (asked < count) await new Promise((resolve) => setTimeout(resolve, 10));
    };
    const members = dnsMembers({ name: 'peers.test', port, intervalMs: 50, resolver });
    const taker = await world.addNode({ peers: { members } });
    assert.is(
      (await pull(taker, blob)).originBytes,
      blob.bytes.length,
      'nobody is known: the origin is asked',
    );
    await taker.cache.dropIdle();
    await pull(holder, blob);
    isUp = true;
    await until(asked + 2);
    isUp = false;
    await until(asked + 2);
    assert.is(taker.engine.swarmSnapshot()?.members, 1);
    await pull(taker, blob);
  });
});

test('a node that is told to stop takes no more leases, and serves what only it holds before it goes', async () => {
  const blob = sampleBlob(BLOB_BYTES);
  await PeerWorld.run([blob], async (world) => {
    const limits = { originBytesPerSecond: 6e6 };
    const leaver = await world.addNode({ limits: { ...limits, uploadBytesPerSecond: 10e6 } });
    const stayer = await world.addNode({ limits });
    const left = leaver.open(blob);
    left.finished.catch(() => undefined);
    await new Promise<void>((resolve) => left.onPrefix((prefix) => prefix > 8 * MIB && resolve()));
    const transfer = stayer.open(blob);
    await new Promise<void>((resolve) => transfer.onPrefix(() => resolve()));
    const startMs = performance.now();
    await leaver.engine.drain();
    const readBytes = leaver.engine.counters.originBytes;
    assert.ok(performance.now() - startMs < 21_000, 'longer than it may');
    await leaver.close();
    await transfer.finished;
    transfer.release();
    const sum = readBytes + transfer.counts.originBytes;
    assert.ok(sum <= 1.1 * BLOB_BYTES, `${sum} bytes of the origin for ${BLOB_BYTES}`);
    assert.ok(leaver.engine.counters.servedBytes >= 8 * MIB);
  });
});

test('a node that nobody asks stops at once', async () => {
  await PeerWorld.run([], async (world) => {
    const node = await world.addNode();
    const startMs = performance.now();
    await node.engine.drain();
    assert.ok(performance.now() - startMs < 500);
  });
});

/** Carries bytes to `port` until it is cut: then nothing passes, and nobody is told. */
class Link {
  readonly #server = createServer((near) => this.#carry(near));
  readonly #sockets = new Set<Socket>();
  readonly #port: number;
  #isCut = false;
  carriedBytes = 0;

  static async open(port: number): Promise<Link> {
    const link = new Link(port);
    link.#server.listen(0, '127.0.0.1');
    await once(link.#server, 'listening');
    return link;
  }

  private constructor(port: number) {
    this.#port = port;
  }

  get self(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  cut(): void {
    this.#isCut = true;
    for (const socket of this.#sockets) socket.pause();
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #carry(near: Socket): void {
    const far = connect(this.#port, '127.0.0.1');
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#sockets.add(from);
      if (this.#isCut) from.pause();
      from.on('error', () => undefined);
      from.on('close', () => this.#isCut || to.destroy());
      from.on('data', (bytes) => {
        this.carriedBytes += bytes.length;
        if (!to.write(bytes)) from.pause();
      });
      to.on('drain', () => this.#isCut || from.resume());
    }
  }
}

test.run();
