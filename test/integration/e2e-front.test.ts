// time limit: 300 s
import { status } from '@grpc/grpc-js';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Agent } from '../support/agent.ts';
import { startCriLoad } from '../support/cri-load.ts';
import { type Front, startAgentBehind, startFront } from '../support/front.ts';
import { buildSampleImage } from '../support/images/samples.ts';
import { assertNothingLeft, eventually, failureOf, startOriginSite } from '../support/pull-site.ts';
import { canRun, containerdSkipReason } from '../support/real/components.ts';
import { startContainerd } from '../support/real/containerd.ts';
import { pull, runCrictl } from '../support/real/crictl.ts';
import { testedVersion } from '../support/real/import-site.ts';

const OPTED_IN = { 'k8s.aliyun.com/image-accelerate-mode': 'p2p' };
const SLOW_BYTES_PER_SECOND = 8_000_000;
const LARGE_BYTES = [8_000_000, 8_000_000];
const SMALL_BYTES = [300_000];
/** The agent gets this far before something happens to it. */
const UNDER_WAY_BYTES = 1_000_000;

if (canRun(containerdSkipReason(testedVersion, 'crictl-go'))) {
  const ends = [
    { name: 'killed', end: (agent: Agent) => agent.kill('SIGKILL') },
    { name: 'frozen', end: (agent: Agent) => agent.kill('SIGSTOP') },
    { name: 'told to stop', end: (agent: Agent) => agent.kill('SIGTERM') },
  ] as const;
  for (const { name, end } of ends) {
    test(`an agent that is ${name} in the middle of a pull: containerd ends it, and no other call fails`, async () => {
      await using node = await startNode();
      const large = await node.push('large', LARGE_BYTES);
      node.gate.setRate(SLOW_BYTES_PER_SECOND);
      const pulling = node.pull(large.reference);
      await eventually(
        () => node.agent.status(),
        ({ totals }) => (totals.originBytes ?? 0) >= UNDER_WAY_BYTES,
      );
      end(node.agent);
      assert.is(await pulling, large.imageId);
      assert.ok(node.fetchedByContainerd('large') > 0);
      node.gate.setRate(undefined);
      await node.bringBack(name);

      const small = await node.push('small', SMALL_BYTES);
      assert.is(await node.pull(small.reference), small.imageId);
      assert.is(node.fetchedByContainerd('small'), 0);
      await node.load.answers(50);
      assert.equal(node.load.failures, []);
      await assertNothingLeft(node);
      report(name, node.load.slowestMs);
    });
  }

  test('agents come and go while there is no pull, and no call fails', async () => {
    await using node = await startNode();
    for (const { name, end } of ends) {
      end(node.agent);
      const during = await node.push(`during-${name.replaceAll(' ', '-')}`, SMALL_BYTES);
      assert.is(await node.pull(during.reference), during.imageId);
      await node.bringBack(name);
    }
    await node.load.answers(50);
    assert.equal(node.load.failures, []);
    report('coming and going', node.load.slowestMs);
  });

  test('the HTTP port sends containerd upstream while there is no agent', async () => {
    await using node = await startNode();
    const get = async (path: string) => (await fetch(`http://${node.front.httpAddress}${path}`)).status;
    await node.agent.stop();
    await node.front.waitForAgent('gone');
    assert.equal([await get('/v2/app/blobs/sha256:00'), await get('/metrics')], [404, 503]);
  });

  test('containerd restarted behind agent and front: calls and pulls work again', async () => {
    await using node = await startNode();
    const before = await node.push('before', SMALL_BYTES);
    assert.is(await node.pull(before.reference), before.imageId);
    await node.containerd.restart();
    await node.recover();
    const after = await node.push('after', SMALL_BYTES);
    assert.is(await node.pull(after.reference), after.imageId);
    assert.is(node.fetchedByContainerd('after'), 0);
    assert.is(await node.pull(before.reference), before.imageId);
  });

  test('containerd killed in the middle of a pull: the call fails as unavailable, the next one goes on', async () => {
    await using node = await startNode();
    const large = await node.push('large', LARGE_BYTES);
    node.gate.setRate(SLOW_BYTES_PER_SECOND);
    const failing = failureOf(node.pull(large.reference));
    await eventually(
      () => node.agent.status(),
      ({ totals }) => (totals.originBytes ?? 0) >= UNDER_WAY_BYTES,
    );
    await node.containerd.kill('SIGKILL');
    node.gate.setRate(undefined);
    assert.is((await failing).code, 'Unavailable');
    await node.containerd.start();
    await node.recover();
    assert.is(await node.pull(large.reference), large.imageId);
    assert.is(node.fetchedByContainerd('large'), 0);
    // What was verified before is in the cache.
    assert.ok(((await node.agent.status()).totals.cacheBytes ?? 0) > 0);
    // The lease could not be given back to a dead containerd: it runs out, or the next start of the agent sweeps it.
    node.agent.kill('SIGTERM');
    await node.bringBack('told to stop');
    await assertNothingLeft(node);
  });
}

test.run();

function report(what: string, slowestMs: number): void {
  process.stdout.write(`${what}: slowest call ${slowestMs.toFixed(0)} ms\n`);
}

/** A node with everything but kubelet, which is asked what kubelet asks, all the time. */
async function startNode() {
  await using stack = new AsyncDisposableStack();
  const origin = stack.use(await startOriginSite());
  const containerd = stack.use(await startContainerd({ version: testedVersion }));
  const front = stack.use(await startFront({ containerd: containerd.socket }));
  const agent = stack.use(await startAgentBehind(front, { containerd: containerd.socket }));
  const push = pusher(origin);
  const present = await push('present', SMALL_BYTES);
  await pull({ endpoint: front.socket }, present.reference);
  const load = stack.use(startCriLoad(front.socket, present.reference));
  await load.answers(10);
  const owned = stack.move();
  return {
    gate: origin.gate,
    containerd,
    front,
    agent,
    cri: { endpoint: front.socket },
    load,
    push,
    pull: (reference: string) => pull({ endpoint: front.socket }, reference, { annotations: OPTED_IN }),
    fetchedByContainerd: (repository: string): number => {
      const requests = origin.gate.requests({ class: 'blob', method: 'GET', path: `/v2/${repository}/` });
      return requests.filter(({ userAgent }) => userAgent?.startsWith('containerd/')).length;
    },
    bringBack: (end: 'killed' | 'frozen' | 'told to stop') => bringBack(front, agent, end),
    /** Waits until calls are answered again; those that failed must have said that containerd is away. */
    recover: async () => {
      await load.answers(10);
      const others = load.failures.filter((failure) => !failure.includes(`: ${status.UNAVAILABLE} `));
      assert.equal(others, []);
      load.reset();
      await load.answers(30);
      assert.equal(load.failures, []);
      await runCrictl({ endpoint: front.socket }, 'images');
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

function pusher(origin: Awaited<ReturnType<typeof startOriginSite>>) {
  return async (name: string, layerSizesBytes: readonly number[]) => {
    using image = await buildSampleImage({ layerSizesBytes, seed: name });
    const { reference } = await origin.push(image, name);
    return { reference, imageId: image.config.digest };
  };
}

async function bringBack(front: Front, agent: Agent, end: string): Promise<void> {
  await front.waitForAgent('gone');
  if (end === 'frozen') agent.kill('SIGCONT');
  else await agent.restart();
  await front.waitForAgent('healthy');
}
