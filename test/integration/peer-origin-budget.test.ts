// time limit: 180 s
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { rankByRendezvous } from '../../shim/swarm/rendezvous.ts';
import { type Agent, pullToEnd } from '../support/agent.ts';
import { type SampleBlob, sampleBlob } from '../support/blob-origin.ts';
import { buildSampleImage } from '../support/images/samples.ts';
import { type PeerNode, PeerWorld, pull as pullBlob } from '../support/peer-nodes.ts';
import { eventually, type OriginSite, startOriginSite, startPeers } from '../support/pull-site.ts';
import { canRun, componentsAvailable } from '../support/real/components.ts';
import type { RegistryGate } from '../support/real/registry-gate.ts';

const MB = 1e6;
const LIMIT_MB = 8;
const NAMES = ['one', 'two', 'three', 'four'];
/** Each of its own: no peer can help another. */
const LAYERS_BYTES = [9 * MB, 9 * MB];
const SAMPLE_MS = 20;

/** Bytes of layers that a registry has sent, as time goes on. */
class OriginMeter {
  readonly #gate: RegistryGate;
  readonly #samples: { readonly atMs: number; readonly bytes: number }[] = [];
  readonly #timer: NodeJS.Timeout;

  constructor(gate: RegistryGate) {
    this.#gate = gate;
    this.#timer = setInterval(() => this.#sample(), SAMPLE_MS);
    this.#sample();
  }

  get bytes(): number {
    return this.#gate.count({ class: 'blob' }).bytes;
  }

  /** Bytes a second between the first and the last byte, over the limit. */
  get share(): number {
    const moving = this.#samples.filter(({ bytes }, at) => bytes !== this.#samples[at - 1]?.bytes);
    const [first, last] = [moving[1], moving.at(-1)];
    if (first === undefined || last === undefined) return 0;
    return (last.bytes - first.bytes) / ((last.atMs - first.atMs) / 1000) / (LIMIT_MB * MB);
  }

  /** The most that was sent within any such time, over the limit. */
  peakShare(windowMs: number): number {
    let peakBytes = 0;
    let from = 0;
    for (const { atMs, bytes } of this.#samples) {
      while (atMs - (this.#samples[from]?.atMs ?? atMs) > windowMs) from++;
      peakBytes = Math.max(peakBytes, bytes - (this.#samples[from]?.bytes ?? 0));
    }
    return peakBytes / ((LIMIT_MB * MB * windowMs) / 1000);
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#sample();
  }

  #sample(): void {
    this.#samples.push({ atMs: performance.now(), bytes: this.bytes });
  }
}

interface Site {
  readonly origin: OriginSite;
  readonly agents: readonly Agent[];
  /** Pulls the image that is this agent's alone. */
  pull(agent: Agent): Promise<unknown>;
}

async function withSite(body: (site: Site) => Promise<void>): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const origin = stack.use(await startOriginSite());
  const settings = { limits: { originLimitMB: LIMIT_MB } };
  const { agents } = stack.use(await startPeers(NAMES, { settings }));
  const references = new Map<string, string>();
  for (const name of NAMES) {
    using image = await buildSampleImage({ layerSizesBytes: LAYERS_BYTES, seed: `budget-${name}` });
    references.set(name, (await origin.push(image, `team/${name}`)).reference);
  }
  const pull = (agent: Agent) => pullToEnd(agent.pull(references.get(agent.name) ?? ''));
  await body({ origin, agents, pull });
}

/** Fails unless the limit held in every 5 s and every 10 s. */
function assertWithinLimit(meter: OriginMeter): void {
  for (const windowMs of [5_000, 10_000]) {
    const share = meter.peakShare(windowMs);
    assert.ok(share <= 1.1, `${(share * 100).toFixed(1)} % of the limit within ${windowMs} ms`);
  }
}

if (canRun(componentsAvailable('registry', 'busybox'))) {
  test('nodes that want different images read the registry within one limit, and use it', async () => {
    await withSite(async ({ origin, agents, pull }) => {
      const meter = new OriginMeter(origin.gate);
      await Promise.all(agents.map(pull));
      meter.stop();
      assert.ok(meter.share >= 0.8 && meter.share <= 1.1, `${(meter.share * 100).toFixed(1)} % of the limit`);
      assertWithinLimit(meter);
    });
  });

  test('a node that pulls alone gets all of the limit, whoever keeps it', async () => {
    await withSite(async ({ origin, agents, pull }) => {
      const keeper = keeperOf(origin, agents);
      const [taker] = agents.filter((agent) => agent !== keeper);
      const meter = new OriginMeter(origin.gate);
      await pull(taker as Agent);
      meter.stop();
      assert.ok(meter.share >= 0.9, `${(meter.share * 100).toFixed(1)} % of the limit`);
      assertWithinLimit(meter);
    });
  });

  for (const [event, signal] of [
    ['killed', 'SIGKILL'],
    ['frozen', 'SIGSTOP'],
  ] as const)
    test(`the limit holds when the node that keeps it is ${event}, and the other pulls end`, async () => {
      await withSite(async ({ origin, agents, pull }) => {
        const keeper = keeperOf(origin, agents);
        const others = agents.filter((agent) => agent !== keeper);
        const meter = new OriginMeter(origin.gate);
        const keepers = pull(keeper).then(
          () => 'ended',
          () => 'failed',
        );
        const pulls = Promise.all(others.map(pull));
        await eventually(
          () => meter.bytes,
          (bytes) => bytes >= 24 * MB,
        );
        keeper.kill(signal);
        await pulls;
        meter.stop();
        assertWithinLimit(meter);
        // Some seconds pass until another one keeps it, more of them on a busy machine.
        assert.ok(meter.share >= 0.5, `${(meter.share * 100).toFixed(1)} % of the limit`);
        keeper.kill('SIGCONT');
        assert.is(await keepers, signal === 'SIGKILL' ? 'failed' : 'ended');
      });
    });
}

test('a limit of requests holds for all nodes together', async () => {
  const requestsPerSecond = 4;
  const blobs = [sampleBlob(48 * MB), sampleBlob(48 * MB), sampleBlob(48 * MB)];
  await PeerWorld.run(blobs, async (world) => {
    const limits = { originRequestsPerSecond: requestsPerSecond };
    const nodes = await world.addNodes(blobs.length, { limits });
    const startMs = performance.now();
    await Promise.all(nodes.map((node, index) => pullBlob(node, blobs[index] as SampleBlob)));
    const allowed = (requestsPerSecond * (performance.now() - startMs)) / 1000;
    const { requests } = world.origin;
    assert.ok(requests >= 15 && requests <= 1.1 * allowed + 1, `${requests} requests, ${allowed} may be`);
    assert.ok(requests >= 0.75 * allowed, `${requests} requests, ${allowed} may be`);
  });
});

test('a blob that waits long for its turn, or for that of another node, is not taken for stalled', async () => {
  const blobs = [sampleBlob(5 * MB), sampleBlob(5 * MB), sampleBlob(5 * MB)] as const;
  await PeerWorld.run([...blobs], async (world) => {
    const limits = { originBytesPerSecond: 2 * MB, blobStallMs: 1_000 };
    const nodes = (await world.addNodes(4, { limits })) as [PeerNode, PeerNode, PeerNode, PeerNode];
    const wishes = [blobs[0], blobs[1], blobs[2], blobs[0]];
    const counts = await Promise.all(wishes.map((blob, index) => pullBlob(nodes[index] as PeerNode, blob)));
    assert.ok(world.origin.bytesSent <= 15 * MB, `${world.origin.bytesSent} bytes were read`);
    assert.is(
      counts.reduce((sum, { originBytes }) => sum + originBytes, 0),
      15 * MB,
    );
    const waits = nodes.reduce((sum, { engine }) => sum + engine.counters.originBudgetWaits, 0);
    assert.ok(waits > 0);
  });
});

function keeperOf({ gate }: OriginSite, agents: readonly Agent[]): Agent {
  const [best] = rankByRendezvous(
    gate.host,
    agents.map(({ peerAddress }) => peerAddress),
    1,
  );
  return agents.find(({ peerAddress }) => peerAddress === best) as Agent;
}

test.run();
