import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { DEFAULT_P2P_HOST_RULES } from '../../../shim/base/p2p-address.ts';
import { P2P_CONFIG_SECRETS_MAX, parseP2pConfig } from '../../../shim/base/p2p-config.ts';
import {
  type AdmissionDecision,
  type AdmissionScope,
  type AdmissionSettings,
  decideAdmission,
  type PatchStep,
} from '../../../webhook/admission.ts';
import { annotationKeys } from '../../../webhook/annotation-keys.ts';
import { readPod } from '../../../webhook/pod.ts';

const MODE = 'k8s.aliyun.com/image-accelerate-mode';
const CONFIG = 'k8s.aliyun.com/p2p-config';
const LIMITS = 'k8s.aliyun.com/p2p-limits';
const IMAGE = 'test-registry-vpc.cn-hangzhou.cr.aliyuncs.com/docker-builder/nginx:latest';
const P2P_IMAGE =
  'test-registry-vpc.distributed.cn-hangzhou.cr.aliyuncs.com:65001/docker-builder/nginx:latest';
const settings: AdmissionSettings = {
  keys: annotationKeys('k8s.aliyun.com'),
  limits: {},
  rewriteImages: false,
  hostRules: DEFAULT_P2P_HOST_RULES,
};

// biome-ignore lint/suspicious/noExplicitAny: pods are JSON that tests take apart.
type Pod = any;

function makePod(change: { metadata?: object; spec?: object } = {}): Pod {
  return {
    metadata: { name: 'test', labels: { app: 'nginx' }, ...change.metadata },
    spec: {
      imagePullSecrets: [{ name: 'test-registry' }],
      containers: [{ name: 'test', image: IMAGE }],
      ...change.spec,
    },
  };
}

function decide(pod: Pod, scope: AdmissionScope = 'namespace', change: Partial<AdmissionSettings> = {}) {
  const read = readPod(pod);
  assert.ok(read !== undefined);
  return decideAdmission(read, scope, { ...settings, ...change });
}

/** JSON patch as RFC 6902 has it, for the two operations that are used. */
function apply(pod: Pod, patch: readonly PatchStep[]): Pod {
  const result = structuredClone(pod);
  for (const { op, path, value } of patch) {
    const keys = path
      .slice(1)
      .split('/')
      .map((key) => key.replaceAll('~1', '/').replaceAll('~0', '~'));
    const last = keys.pop() as string;
    const parent = keys.reduce((at, key) => at[key], result);
    assert.ok(op === 'add' || parent[last] !== undefined, `${path} is there to be replaced`);
    if (last === '-') parent.push(value);
    else parent[last] = value;
  }
  return result;
}

function admit(pod: Pod, scope?: AdmissionScope, change?: Partial<AdmissionSettings>): Pod {
  return apply(pod, decide(pod, scope, change).patch);
}

function configOf(pod: Pod) {
  return parseP2pConfig(pod.metadata.annotations[CONFIG]);
}

const untouched = ({ reason, patch }: AdmissionDecision) => [reason, patch.length];

test('decideAdmission() adds two annotations and one pull secret, and nothing else', () => {
  const pod = makePod();
  const admitted = admit(pod);
  assert.is(admitted.metadata.annotations[MODE], 'p2p');
  assert.equal(configOf(admitted), {
    version: 1,
    images: [IMAGE],
    secrets: ['acr-credential-test-registry-p2p'],
    limits: {},
  });
  assert.equal(admitted.spec.imagePullSecrets, [
    { name: 'test-registry' },
    { name: 'acr-credential-test-registry-p2p' },
  ]);
  delete admitted.metadata.annotations;
  admitted.spec.imagePullSecrets.pop();
  assert.equal(admitted, pod);
});

test('decideAdmission() changes nothing in a pod that it has changed already', () => {
  const pods = [
    makePod(),
    makePod({ metadata: { annotations: { a: '1', [CONFIG]: 'not ours' } } }),
    makePod({ spec: { imagePullSecrets: Array.from({ length: 100 }, (_, i) => ({ name: `s-${i}` })) } }),
    makePod({ spec: { imagePullSecrets: [] } }),
  ];
  for (const pod of pods)
    for (const rewriteImages of [false, true]) {
      const once = admit(pod, 'namespace', { rewriteImages });
      assert.equal(decide(once, 'namespace', { rewriteImages }).patch, []);
    }
});

test('decideAdmission() completes the list when another webhook has added a container', () => {
  const admitted = admit(makePod());
  admitted.spec.containers.push({ name: 'sidecar', image: 'proxy:1' });
  const { patch } = decide(admitted);
  assert.equal(
    patch.map((step) => step.path),
    ['/metadata/annotations/k8s.aliyun.com~1p2p-config'],
  );
  assert.equal(configOf(apply(admitted, patch)).images, [IMAGE, 'proxy:1']);
});

test('decideAdmission() follows the pod before its namespace, and off before anything', () => {
  const labelled = (mode: string) => makePod({ metadata: { labels: { [MODE]: mode } } });
  const annotated = (mode: string) => makePod({ metadata: { annotations: { [MODE]: mode } } });
  assert.is(decide(makePod(), 'namespace').reason, 'opted-in');
  assert.is(decide(labelled('p2p'), 'pod').reason, 'opted-in');
  assert.is(decide(labelled('other'), 'namespace').reason, 'opted-in');
  assert.equal(untouched(decide(labelled('off'), 'namespace')), ['opted-out', 0]);
  assert.equal(untouched(decide(annotated('off'), 'namespace')), ['opted-out', 0]);
  assert.equal(untouched(decide(labelled('other'), 'pod')), ['not-opted-in', 0]);
  assert.equal(untouched(decide(makePod(), 'pod')), ['not-opted-in', 0]);
  const annotationAlone = decide(annotated('p2p'), 'pod');
  assert.equal(untouched(annotationAlone), ['not-opted-in', 0], 'an annotation alone is for the node');
});

test('decideAdmission() leaves mirror pods alone, which a node may not create with secrets', () => {
  const mirror = makePod({
    metadata: { labels: { [MODE]: 'p2p' }, annotations: { 'kubernetes.io/config.mirror': 'x' } },
  });
  assert.equal(untouched(decide(mirror)), ['mirror-pod', 0]);
});

test('decideAdmission() lists images in the order in which kubelet pulls them, each once', () => {
  const images = (...names: string[]) => names.map((image, i) => ({ name: `c${i}`, image }));
  const pod = makePod({
    spec: {
      containers: images('main:1', 'init:1', 'main:2'),
      initContainers: images('init:1', 'init:2'),
      ephemeralContainers: images('debug:1'),
    },
  });
  assert.equal(configOf(admit(pod)).images, ['init:1', 'init:2', 'debug:1', 'main:1', 'main:2']);
});

test('decideAdmission() adds no pull secrets to a pod that has none', () => {
  const pod = makePod({ spec: { imagePullSecrets: undefined } });
  const admitted = admit(pod);
  assert.is(admitted.spec.imagePullSecrets, undefined);
  assert.equal(configOf(admitted).secrets, []);
});

test('decideAdmission() knows secrets for peer-to-peer addresses that are there already', () => {
  const byHand = 'acr-credential-mine-p2p';
  const spec = { imagePullSecrets: [{ name: 'mine' }, { name: byHand }, { name: 'mine' }] };
  const admitted = admit(makePod({ spec }));
  assert.equal(admitted.spec.imagePullSecrets, spec.imagePullSecrets);
  assert.equal(configOf(admitted).secrets, [byHand]);
});

test('decideAdmission() leaves out secrets whose copies would have too long a name, and says so', () => {
  const longest = 'a'.repeat(234);
  const spec = { imagePullSecrets: [{ name: longest }, { name: `${longest}a` }, { name: 'b'.repeat(300) }] };
  const { warnings } = decide(makePod({ spec }));
  assert.equal(warnings.length, 1);
  assert.match(warnings[0] ?? '', /^1 pull secrets have names above 234/);
  const { secrets } = configOf(admit(makePod({ spec })));
  assert.equal(secrets, [`acr-credential-${longest}-p2p`]);
  assert.is(secrets[0]?.length, 253);
});

test('decideAdmission() adds no more secrets than fit, and says so', () => {
  const names = Array.from({ length: P2P_CONFIG_SECRETS_MAX + 7 }, (_, i) => ({ name: `s${i}` }));
  const pod = makePod({ spec: { imagePullSecrets: names } });
  const admitted = admit(pod);
  assert.is(admitted.spec.imagePullSecrets.length, names.length + P2P_CONFIG_SECRETS_MAX);
  assert.is(configOf(admitted).secrets.length, P2P_CONFIG_SECRETS_MAX);
  assert.match(decide(pod).warnings.join(), /7 pull secrets get no peer-to-peer form/);
});

test('decideAdmission() takes limits from its settings, and from the pod before them', () => {
  const limits = { warmAtOnce: 2, throttleLimitMB: 50 };
  assert.equal(configOf(admit(makePod(), 'namespace', { limits })).limits, limits);
  const pod = makePod({ metadata: { annotations: { [LIMITS]: '{"warmAtOnce":5}' } } });
  assert.equal(configOf(admit(pod, 'namespace', { limits })).limits, { warmAtOnce: 5, throttleLimitMB: 50 });
});

test('decideAdmission() does without limits that make no sense, and says so', () => {
  for (const text of ['', 'fast', '{"warmAtOnce":0}', '[]', '{"throttleLimitMB":"1"}']) {
    const pod = makePod({ metadata: { annotations: { [LIMITS]: text } } });
    const decision = decide(pod);
    assert.is(decision.reason, 'opted-in');
    assert.match(decision.warnings.join(), /p2p-limits is not used/);
    assert.equal(configOf(apply(pod, decision.patch)).limits, {});
  }
});

test('decideAdmission() rewrites images only when asked to, and only of hosts that have another form', () => {
  const names = [IMAGE, 'nginx', 'ghcr.io/a/b:1', P2P_IMAGE, `localhost/${IMAGE}`];
  const pod = makePod({ spec: { containers: names.map((image) => ({ image })) } });
  const imagesOf = (admitted: Pod) => admitted.spec.containers.map((each: Pod) => each.image);
  assert.equal(imagesOf(admit(pod)), names);
  const rewritten = admit(pod, 'namespace', { rewriteImages: true });
  assert.equal(imagesOf(rewritten), [P2P_IMAGE, 'nginx', 'ghcr.io/a/b:1', P2P_IMAGE, `localhost/${IMAGE}`]);
  assert.equal(configOf(rewritten).images, [P2P_IMAGE, 'nginx', 'ghcr.io/a/b:1', `localhost/${IMAGE}`]);
});

test('decideAdmission() never makes annotations larger than Kubernetes takes', () => {
  const total = (pod: Pod) =>
    Object.entries(pod.metadata.annotations as Record<string, string>)
      .map(([key, value]) => Buffer.byteLength(key + value))
      .reduce((sum, size) => sum + size, 0);
  const most = 256 << 10;
  for (const room of [0, 50, 150, 300, 1_000]) {
    const pod = makePod({
      metadata: { annotations: { é: 'x'.repeat(most - room - Buffer.byteLength('é')) } },
    });
    const decision = decide(pod);
    const admitted = apply(pod, decision.patch);
    assert.ok(total(admitted) <= most, `${room} bytes of room: ${total(admitted)}`);
    assert.is(decision.reason, room < 100 ? 'annotations-full' : 'opted-in', `${room} bytes of room`);
    if (room === 300) assert.equal(configOf(admitted).images, [IMAGE]);
  }
});

test('decideAdmission() shortens the list of images until it fits', () => {
  const containers = Array.from({ length: 200 }, (_, i) => ({ image: `r.test/${'a'.repeat(490)}:${i}` }));
  const { images } = configOf(admit(makePod({ spec: { containers } })));
  assert.ok(images.length > 120 && images.length <= 128, `${images.length}`);
  assert.is(images[0], containers[0]?.image);
  const tight = makePod({
    spec: { containers },
    metadata: { annotations: { a: 'x'.repeat((256 << 10) - 10_000) } },
  });
  const fewer = configOf(admit(tight)).images;
  assert.ok(fewer.length >= 15 && fewer.length <= 20, `${fewer.length}`);
});

test('decideAdmission() survives pods of any shape', () => {
  const odd: Pod[] = [
    { metadata: {}, spec: {} },
    { metadata: { annotations: null, labels: 7 }, spec: { containers: 'no', imagePullSecrets: {} } },
    {
      metadata: { annotations: { [MODE]: 7 } },
      spec: { containers: [null, 1, {}, { image: 3 }, { image: '' }] },
    },
    { metadata: { labels: [] }, spec: { imagePullSecrets: [null, { name: 1 }, { name: '' }, {}] } },
    { metadata: {}, spec: { imagePullSecrets: [{ name: '../x' }, { name: 'A B' }, { name: '__proto__' }] } },
    { metadata: {}, spec: { containers: [{ image: 'with blank' }, { image: 'a\u0000b' }] } },
    JSON.parse('{"metadata":{"annotations":{"__proto__":"x"}},"spec":{"__proto__":{"containers":[]}}}'),
  ];
  for (const pod of odd) {
    const admitted = admit(pod);
    assert.is(admitted.metadata.annotations[MODE], 'p2p');
    assert.equal(configOf(admitted), { version: 1, images: [], secrets: [], limits: {} });
  }
  for (const none of [undefined, null, 1, 'pod', [], {}, { metadata: {} }, { spec: {} }])
    assert.is(readPod(none), undefined);
});

test('decideAdmission() uses the prefix that it is given', () => {
  const keys = annotationKeys('example.org');
  const pod = makePod({ metadata: { labels: { 'example.org/image-accelerate-mode': 'p2p' } } });
  const { annotations } = admit(pod, 'pod', { keys }).metadata;
  assert.equal(Object.keys(annotations), ['example.org/image-accelerate-mode', 'example.org/p2p-config']);
});

test.run();
