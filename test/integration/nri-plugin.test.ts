// time limit: 240 s
// The plugin as a process of its own, against the containerd that CONTAINERD names (1.7, 2.1, 2.4): what it tells the agent,
// what containers show, and that pods start whatever becomes of the plugin, the agent or containerd.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type NriPlugin, nriSocketOf, startNriPlugin } from '../support/nri.ts';
import { type PodListener, startPodListener } from '../support/nri-agent.ts';
import { startTestPod } from '../support/nri-pods.ts';
import { canRun, containerdSkipReason } from '../support/real/components.ts';
import { pull } from '../support/real/crictl.ts';
import { type ImportSite, startImportSite, testedVersion } from '../support/real/import-site.ts';

/** containerd's `plugin_request_timeout` is 2 s; then it drops the plugin. */
const FROZEN_POD_MS_MAX = 15_000;

const MODE = 'k8s.aliyun.com/image-accelerate-mode';
const RESULT = 'k8s.aliyun.com/p2p-result';
const optIn = { annotations: { [MODE]: 'p2p', 'k8s.aliyun.com/p2p-config': '{"version":1}', other: 'x' } };

const test = suite(`NRI plugin on containerd ${testedVersion}`);
const stack = new AsyncDisposableStack();
let site: ImportSite;
let agent: PodListener;
let plugin: NriPlugin;

if (canRun(containerdSkipReason(testedVersion, 'crictl-go'))) {
  test.before(async () => {
    site = stack.use(await startImportSite());
    agent = stack.use(await startPodListener());
    plugin = stack.use(
      startNriPlugin({ nriSocket: nriSocketOf(site.containerd), agentSocket: agent.socketPath }),
    );
    await pull(site.cri, site.reference);
    await plugin.waitForLine(/^Synchronized/);
    await plugin.waitForLine(/^Connected to the agent/);
  });
  test.after(() => stack.disposeAsync());

  test('the agent is told when an opted-in pod starts and when it is removed, and nothing else', async () => {
    await using quiet = await startTestPod(site.containerd, 'plain', {});
    await using pod = await startTestPod(site.containerd, 'warm', optIn);
    const [started] = await agent.waitFor('/v1/pods', 1);
    assert.equal(started?.body, {
      podUid: 'warm-uid',
      namespace: 'team',
      name: 'warm',
      sandboxId: pod.id,
      labels: {},
      annotations: { [MODE]: 'p2p', 'k8s.aliyun.com/p2p-config': '{"version":1}' },
      warm: true,
    });
    await pod.remove();
    await quiet.remove();
    const removed = await agent.waitFor('/v1/pods/removed', 1);
    assert.equal(removed, [{ path: '/v1/pods/removed', body: { podUid: 'warm-uid' } }]);
    assert.is(agent.at('/v1/pods').length, 1);
  });

  test('a container of an opted-in pod shows how its image came', async () => {
    await using pod = await startTestPod(site.containerd, 'told', { labels: { [MODE]: 'p2p' } });
    const bytes = { origin: 1, peer: 2, cache: 3 };
    agent.tellResult({ image: site.reference, podUid: 'told-uid', seconds: 3.2, bytes });
    const annotations = await pod.createContainer(site.reference);
    assert.equal(JSON.parse(annotations[RESULT] ?? ''), { accelerated: true, seconds: 3.2, bytes });
  });

  test('a container shows why its image was not accelerated', async () => {
    await using pod = await startTestPod(site.containerd, 'refused', optIn);
    agent.tellResult({
      image: site.reference,
      podUid: 'refused-uid',
      accelerated: false,
      reason: 'registry-denied',
    });
    const annotations = await pod.createContainer(site.reference);
    assert.is(annotations[RESULT], '{"accelerated":false,"reason":"registry-denied"}');
  });

  test('a pod that has not opted in stays as it is', async () => {
    await using pod = await startTestPod(site.containerd, 'plain', {});
    agent.tellResult({ image: site.reference, podUid: 'another-uid' });
    assert.is((await pod.createContainer(site.reference))[RESULT], undefined);
  });

  test('pods start while the agent is frozen, and containers say what is known', async () => {
    agent.freeze();
    try {
      await using pod = await startTestPod(site.containerd, 'frozen-agent', optIn);
      agent.tellResult({ image: site.reference, podUid: 'frozen-agent-uid', seconds: 9 });
      assert.is(JSON.parse((await pod.createContainer(site.reference))[RESULT] ?? '').seconds, 9);
    } finally {
      agent.thaw();
    }
  });

  test('a killed plugin fails no pod, and knows the running ones when it is back', async () => {
    await using pod = await startTestPod(site.containerd, 'survivor', optIn);
    await agent.waitFor('/v1/pods', 1);
    plugin.kill('SIGKILL');
    await plugin.ended;
    await using _meanwhile = await startTestPod(site.containerd, 'meanwhile', optIn);
    const before = agent.at('/v1/pods/sync').length;
    await plugin.restart();
    await plugin.waitForLine(/^Synchronized/, 2);
    await syncOf(before, (names) => names.join() === 'meanwhile,survivor');
    agent.tellResult({ image: site.reference, podUid: 'survivor-uid', seconds: 4 });
    assert.is(JSON.parse((await pod.createContainer(site.reference))[RESULT] ?? '').seconds, 4);
  });

  test('a frozen plugin costs a pod its time limit, is dropped, and registers again', async () => {
    const registrations = [...plugin.log().matchAll(/^Registered/gm)].length;
    plugin.kill('SIGSTOP');
    try {
      const startedMs = performance.now();
      await using pod = await startTestPod(site.containerd, 'during-freeze', optIn);
      await pod.createContainer(site.reference);
      const tookMs = performance.now() - startedMs;
      assert.ok(tookMs < FROZEN_POD_MS_MAX, `took ${tookMs} ms`);
      await using after = await startTestPod(site.containerd, 'after-freeze', optIn);
      await after.createContainer(site.reference);
    } finally {
      plugin.kill('SIGCONT');
    }
    await plugin.waitForLine(/^Registered/, registrations + 1);
    await using pod = await startTestPod(site.containerd, 'thawed', optIn);
    assert.ok((await pod.createContainer(site.reference))[RESULT] !== undefined);
  });

  test('the plugin comes back after containerd has been restarted, with the pods that lived on', async () => {
    await using pod = await startTestPod(site.containerd, 'lived-on', optIn);
    const [registrations, syncs] = [
      [...plugin.log().matchAll(/^Registered/gm)].length,
      agent.at('/v1/pods/sync').length,
    ];
    await site.containerd.restart();
    await plugin.waitForLine(/^Registered/, registrations + 1);
    await syncOf(syncs, (names) => names.includes('lived-on'));
    await using fresh = await startTestPod(site.containerd, 'fresh', optIn);
    assert.ok((await fresh.createContainer(site.reference))[RESULT] !== undefined);
    assert.ok((await pod.createContainer(site.reference))[RESULT] !== undefined);
  });
}

test.run();

/** Waits until one of the syncs after the first `before` lists these pods. */
async function syncOf(before: number, isWanted: (names: readonly string[]) => boolean): Promise<void> {
  for (let count = before + 1; ; count++) {
    const syncs = await agent.waitFor('/v1/pods/sync', count);
    const names = (syncs[count - 1]?.body.pods ?? []).map((pod) => pod.name).sort();
    if (isWanted(names)) return;
  }
}
