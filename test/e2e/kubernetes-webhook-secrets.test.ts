// time limit: 300 s
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { canRun } from '../support/real/components.ts';
import { type KubeApi, startKubeApi } from '../support/real/kube-api.ts';
import {
  dockerSecret,
  type InstalledWebhook,
  installWebhook,
  MODE_KEY,
  P2P_REGISTRY,
  podManifest,
  REGISTRY,
  type Replica,
  startReplica,
  webhookSkipReason,
} from '../support/webhook.ts';

interface Secret {
  readonly type: string;
  readonly metadata: { readonly uid: string; readonly resourceVersion: string };
  readonly data: Readonly<Record<string, string>>;
}

const POLL_MS = 200;
const WAIT_MS = 20_000;
/** A lease lasts 15 s, and then somebody has to look. */
const TAKEOVER_MS = 40_000;
const GRACE = '--copy-grace-seconds=1';
const NAMESPACE = 'listed';

let api: KubeApi;
let webhook: InstalledWebhook;
const replicas: Replica[] = [];

const credentials = (password: string) => ({ [REGISTRY]: { username: 'user', password } });
const copyOf = (name: string) => `acr-credential-${name}-p2p`;

async function findSecret(name: string, namespace = NAMESPACE): Promise<Secret | undefined> {
  const text = await api.kubectl.run(
    'get',
    'secret',
    name,
    '-n',
    namespace,
    '-o',
    'json',
    '--ignore-not-found',
  );
  return text === '' ? undefined : JSON.parse(text);
}

function authsOf(secret: Secret | undefined): Record<string, { password?: string }> {
  const text = Buffer.from(secret?.data['.dockerconfigjson'] ?? '', 'base64').toString() || '{"auths":{}}';
  return JSON.parse(text).auths;
}

async function until<T>(what: string, check: () => Promise<T | false>, waitMs = WAIT_MS): Promise<T> {
  const deadlineMs = performance.now() + waitMs;
  while (performance.now() < deadlineMs) {
    const value = await check();
    if (value !== false) return value;
    await sleep(POLL_MS);
  }
  throw new Error(`${what}: not within ${waitMs} ms\n${replicas.map((each) => each.log()).join('\n')}`);
}

const untilPassword = (name: string, password: string, waitMs?: number) =>
  until(
    `copy of ${name} with ${password}`,
    async () => authsOf(await findSecret(copyOf(name)))[P2P_REGISTRY]?.password === password,
    waitMs,
  );
const untilGone = (name: string) =>
  until(`copy of ${name} gone`, async () => (await findSecret(copyOf(name))) === undefined);

async function createPod(name: string, secrets: readonly string[], namespace = NAMESPACE): Promise<void> {
  const pod = podManifest(namespace, name, { labels: { [MODE_KEY]: 'p2p' }, secrets });
  await api.kubectl.pipe([pod], 'create', '-f', '-');
}

const deletePod = (name: string) =>
  api.kubectl.run('delete', 'pod', name, '-n', NAMESPACE, '--grace-period=0', '--force');

async function eventsAbout(name: string): Promise<string[]> {
  const list = await api.kubectl.get<{ items: { reason: string; involvedObject: { name: string } }[] }>(
    'events',
    '-n',
    NAMESPACE,
  );
  return list.items.filter((event) => event.involvedObject.name === name).map((event) => event.reason);
}

async function leaders(): Promise<Replica[]> {
  const found = await Promise.all(
    replicas.map(async (each) => (await each.metric('shoal_webhook_leader').catch(() => 0)) === 1),
  );
  return replicas.filter((_, index) => found[index]);
}

if (canRun(webhookSkipReason())) {
  api = await startKubeApi();
  webhook = await installWebhook(api, { namespaces: [NAMESPACE], others: ['unlisted'] });
  replicas.push(await startReplica(webhook, 'one', [GRACE]));

  test('a secret that an opted-in pod names is copied, follows its source, and goes with it', async () => {
    await api.kubectl.apply(dockerSecret(NAMESPACE, 'reg', credentials('first')));
    assert.is(await findSecret(copyOf('reg')), undefined, 'nobody names it yet');
    await createPod('web', ['reg']);
    await untilPassword('reg', 'first');
    await api.kubectl.apply(dockerSecret(NAMESPACE, 'reg', credentials('second')));
    await untilPassword('reg', 'second');
    await api.kubectl.run('delete', 'secret', 'reg', '-n', NAMESPACE);
    await untilGone('reg');
  });

  test('a secret that comes after the pod is copied when it comes', async () => {
    await createPod('early', ['late']);
    assert.is(await findSecret(copyOf('late')), undefined);
    await api.kubectl.apply(dockerSecret(NAMESPACE, 'late', credentials('here')));
    await untilPassword('late', 'here');
  });

  test('a copy goes when the last pod that named it has gone', async () => {
    await api.kubectl.apply(dockerSecret(NAMESPACE, 'shared', credentials('x')));
    await createPod('first', ['shared']);
    await createPod('second', ['shared']);
    await untilPassword('shared', 'x');
    await deletePod('first');
    await createPod('marker', ['late']);
    assert.ok((await findSecret(copyOf('shared'))) !== undefined);
    await deletePod('second');
    await untilGone('shared');
    assert.ok((await findSecret('shared')) !== undefined);
  });

  test('a copy that somebody changed or removed is made right again', async () => {
    await api.kubectl.run('delete', 'secret', copyOf('late'), '-n', NAMESPACE);
    await untilPassword('late', 'here');
    const data = { '.dockerconfigjson': Buffer.from('{"auths":{}}').toString('base64') };
    const patch = JSON.stringify({ data });
    await api.kubectl.run('patch', 'secret', copyOf('late'), '-n', NAMESPACE, '-p', patch);
    await untilPassword('late', 'here');
  });

  test("a user's secret of the copy's name is left alone, and an Event says so once", async () => {
    await api.kubectl.apply(dockerSecret(NAMESPACE, copyOf('own'), { 'their.example': { auth: 'eDp5' } }));
    const before = await findSecret(copyOf('own'));
    await api.kubectl.apply(dockerSecret(NAMESPACE, 'own', credentials('x')));
    await createPod('own', ['own']);
    await until('an event', async () => (await eventsAbout(copyOf('own'))).length > 0);
    await createPod('own-again', ['own']);
    await api.kubectl.apply(dockerSecret(NAMESPACE, 'own', credentials('y')));
    await createPod('after', ['other']);
    await api.kubectl.apply(dockerSecret(NAMESPACE, 'other', credentials('z')));
    await untilPassword('other', 'z');
    assert.equal(await eventsAbout(copyOf('own')), ['NameTaken']);
    assert.is((await findSecret(copyOf('own')))?.metadata.resourceVersion, before?.metadata.resourceVersion);
  });

  test('what is no pull secret gets no copy, and an Event says why', async () => {
    const metadata = { name: 'opaque', namespace: NAMESPACE };
    await api.kubectl.apply({ apiVersion: 'v1', kind: 'Secret', metadata, stringData: { a: 'b' } });
    const broken = dockerSecret(NAMESPACE, 'broken', []);
    await api.kubectl.apply(broken);
    await createPod('odd', ['opaque', 'broken']);
    const toldOf = async (name: string) => (await eventsAbout(name))[0] ?? false;
    assert.is(await until('an event', () => toldOf('opaque')), 'NotARegistrySecret');
    assert.is(await until('an event', () => toldOf('broken')), 'MalformedSecret');
    assert.is(await findSecret(copyOf('opaque')), undefined);
    assert.is(await findSecret(copyOf('broken')), undefined);
  });

  test('dockercfg is copied too, and a source made anew with another type', async () => {
    const metadata = { name: 'old', namespace: NAMESPACE };
    const stringData = { '.dockercfg': JSON.stringify(credentials('old')) };
    const old = { apiVersion: 'v1', kind: 'Secret', type: 'kubernetes.io/dockercfg', metadata, stringData };
    await api.kubectl.apply(old);
    await createPod('old', ['old']);
    const copy = await until('a copy', async () => (await findSecret(copyOf('old'))) ?? false);
    assert.is(copy.type, 'kubernetes.io/dockercfg');
    await api.kubectl.run('delete', 'secret', 'old', '-n', NAMESPACE);
    await api.kubectl.apply(dockerSecret(NAMESPACE, 'old', credentials('new')));
    await untilPassword('old', 'new');
  });

  test('many secrets of one pod are all copied', async () => {
    const names = Array.from({ length: 40 }, (_, i) => `many-${i}`);
    await api.kubectl.apply(...names.map((name) => dockerSecret(NAMESPACE, name, credentials(name))));
    await createPod('many', names);
    await untilPassword('many-39', 'many-39');
    for (const name of ['many-0', 'many-20']) await untilPassword(name, name);
  });

  test('nothing is copied in a namespace that is not listed', async () => {
    await api.kubectl.apply(dockerSecret('unlisted', 'reg', credentials('x')));
    await createPod('web', ['reg'], 'unlisted');
    await api.kubectl.apply(dockerSecret(NAMESPACE, 'late', credentials('later')));
    await untilPassword('late', 'later');
    assert.is(await findSecret(copyOf('reg'), 'unlisted'), undefined);
  });

  test('another replica follows one that is killed, and one that ends follows at once', async () => {
    replicas.push(await startReplica(webhook, 'two', [GRACE]));
    const [first, ...others] = await leaders();
    assert.is(first?.name, 'one');
    assert.equal(others, []);
    first?.kill('SIGKILL');
    await first?.ended;
    await api.kubectl.apply(dockerSecret(NAMESPACE, 'late', credentials('rotated')));
    await untilPassword('late', 'rotated', TAKEOVER_MS);
    assert.equal(
      (await leaders()).map((each) => each.name),
      ['two'],
    );
    replicas.push(await startReplica(webhook, 'three', [GRACE]));
    await replicas[1]?.stop();
    const startedMs = performance.now();
    await until('three to lead', async () => (await leaders())[0]?.name === 'three');
    assert.ok(performance.now() - startedMs < 10_000, 'the lease was given up, not left to end');
    await api.kubectl.apply(dockerSecret(NAMESPACE, 'late', credentials('again')));
    await untilPassword('late', 'again');
  });

  test('no replica writes contents of secrets into its log', () => {
    const log = replicas.map((each) => each.log()).join('\n');
    for (const password of ['"first"', 'second', 'rotated', Buffer.from('"rotated"').toString('base64')])
      assert.not.ok(log.includes(password), password);
  });

  test.after(async () => {
    for (const replica of replicas) await replica.stop();
    await api.stop();
  });
}
test.run();
