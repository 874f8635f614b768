import pino from 'pino';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { formatP2pConfig, type P2pConfigLimits } from '../../../shim/base/p2p-config.ts';
import type { PolicySettings } from '../../../shim/policy/policy.ts';
import { parseReference } from '../../../shim/registry/reference.ts';
import { type NoticedPod, PodWarming } from '../../../shim/warm/pod-warming.ts';
import type { WarmWish } from '../../../shim/warm/warm-queue.ts';

const MODE = 'k8s.aliyun.com/image-accelerate-mode';
const CONFIG = 'k8s.aliyun.com/p2p-config';
const KAY = { username: 'kay', password: 'p' };
const policy: PolicySettings = {
  mode: 'opt-in',
  keyPrefix: 'k8s.aliyun.com',
  registries: { allow: [], deny: ['denied.test'] },
  namespaces: { allow: [], deny: [], optIn: ['opted-in'] },
  sandboxImages: ['*/pause'],
  agentImages: [],
};

test('noticed() wants the images of a pod that has opted in: full names, no sandbox, nothing denied, each once', () => {
  using site = siteOf();
  const images = [
    'nginx',
    'r.test/a:1',
    'r.test/pause:3',
    'denied.test/b',
    'docker.io/library/nginx:latest',
    '%',
  ];
  site.pods.noticed(pod('a', { images }));
  assert.equal(site.wanted, [
    wish('a', ['docker.io/library/nginx:latest', 'r.test/a:1'], Number.POSITIVE_INFINITY),
  ]);
});

test('noticed() wants nothing of a pod that has not opted in, is off, runs already, or has no readable config', () => {
  using site = siteOf();
  const images = ['r.test/a:1'];
  site.pods.noticed(pod('a', { images, mode: '' }));
  site.pods.noticed(pod('b', { images, mode: 'off', namespace: 'opted-in' }));
  site.pods.noticed(pod('c', { images, warm: false }));
  site.pods.noticed({ ...pod('d'), annotations: { [CONFIG]: '{"version":2}' } });
  assert.equal(site.wanted, []);
  site.pods.noticed(pod('e', { images, mode: '', namespace: 'opted-in' }));
  assert.equal(
    site.wanted.map(({ podUid }) => podUid),
    ['e'],
  );
});

test("throttle() waits as a pod's limit wants, unless a pod without a limit wants the image as well", async () => {
  using site = siteOf();
  const limits = { warmAtOnce: 3, throttleLimitMB: 1 };
  site.pods.noticed(pod('a', { images: ['r.test/a:1'], limits }));
  const [limited] = site.wanted as [WarmWish];
  assert.is(limited.atOnce, 3);
  assert.is(site.pods.throttle([limited, wish('b', [], 1)], 10_000_000), undefined);
  const startedMs = performance.now();
  await site.pods.throttle([limited], 100_000);
  await site.pods.throttle([limited], 100_000);
  assert.ok(performance.now() - startedMs > 80, '100 kB at 1 MB/s');
});

test('follow() gives a pod when all that list the image have opted in, or the one that is off', () => {
  using site = siteOf();
  const images = ['r.test/a:1'];
  assert.is(site.pods.follow('r.test/a:1'), undefined);
  site.pods.noticed(pod('a', { images }));
  assert.is(site.pods.follow('r.test/a:1')?.podUid, 'a');
  assert.is(site.pods.follow('r.test/b:1'), undefined);
  site.pods.noticed(pod('b', { images, mode: '' }));
  assert.is(site.pods.follow('r.test/a:1'), undefined, 'one of two has not opted in');
  site.pods.noticed(pod('c', { images, mode: 'off' }));
  assert.is(site.pods.follow('r.test/a:1')?.podUid, 'c');
  site.pods.synced([pod('a', { images })]);
  assert.is(site.pods.follow('r.test/a:1')?.podUid, 'a');
  assert.equal(site.forgotten.toSorted(), ['b', 'c']);
});

test('candidates() offers what kubelet is configured with first, then what the namespace has shown', async () => {
  using site = siteOf();
  const node = { username: 'node', password: 'n' };
  const find = (host: string) => (host === 'r.test' ? node : undefined);
  site.pods.bound({ ...pod('a'), images: ['r.test/a:1', 's.test/a:1'], credentials: find });
  const [wished] = site.wanted as [WarmWish];
  site.learn('r.test/other:1', true);
  site.learn('s.test/other:1', true);
  assert.equal(await site.offered(wished, 'r.test/a:1'), [node, KAY]);
  assert.equal(await site.offered(wished, 's.test/a:1'), [KAY]);
  assert.equal(await site.offered({ ...wished, namespace: 'elsewhere' }, 's.test/a:1'), []);
  assert.equal(site.reconsidered, ['default r.test', 'default s.test']);
  site.pods.unbound('a');
  assert.equal(await site.offered(wished, 'r.test/a:1'), [KAY]);
});

test('learn() forgets credentials that were refused and keeps none that were not accepted', async () => {
  using site = siteOf();
  const wished = wish('a', [], 1);
  site.learn('r.test/a:1', undefined);
  assert.equal(await site.offered(wished, 'r.test/b:1'), []);
  site.learn('r.test/a:1', true);
  const [candidate] = await site.pods.candidates([wished], parseReference('r.test/b:1'));
  candidate?.onRefused?.();
  assert.equal(await site.offered(wished, 'r.test/b:1'), []);
  site.learn('r.test/a:1', true);
  site.learn('r.test/a:1', false);
  assert.equal(await site.offered(wished, 'r.test/b:1'), []);
});

test.run();

/** Pods, and what the warmer is told. */
function siteOf() {
  const wanted: WarmWish[] = [];
  const forgotten: string[] = [];
  const reconsidered: string[] = [];
  const pods = new PodWarming({ policy: () => policy, log: pino({ enabled: false }), nowMs: () => 0 });
  pods.warmWith({
    want: (each) => void wanted.push(each),
    forget: (uid) => void forgotten.push(uid),
    reconsider: (namespace, host) => void reconsidered.push(`${namespace} ${host}`),
  });
  return {
    pods,
    wanted,
    forgotten,
    reconsidered,
    learn: (image: string, accepted: boolean | undefined) =>
      pods.learn({ image, namespace: 'default', credentials: KAY, accepted }),
    offered: async (wished: WarmWish, image: string) =>
      (await pods.candidates([wished], parseReference(image))).map(({ credentials }) => credentials),
    [Symbol.dispose]: () => pods.close(),
  };
}

function pod(
  podUid: string,
  options: {
    readonly images?: readonly string[];
    readonly mode?: string;
    readonly namespace?: string;
    readonly warm?: boolean;
    readonly limits?: P2pConfigLimits;
  } = {},
): NoticedPod {
  const { images = [], mode = 'p2p', namespace = 'default', warm = true, limits = {} } = options;
  const config = formatP2pConfig({ version: 1, images, secrets: [], limits });
  return {
    podUid,
    namespace,
    name: podUid,
    labels: { [MODE]: mode },
    annotations: { [CONFIG]: config },
    warm,
  };
}

function wish(podUid: string, images: readonly string[], atOnce: number): WarmWish {
  return { podUid, namespace: 'default', images, atOnce };
}
