// time limit: 300 s
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { writeField } from '../../shim/cri/protobuf-reader.ts';
import { type Agent, pullToEnd, startAgent } from '../support/agent.ts';
import { type CapturingProxy, startCapturingProxy } from '../support/capturing-proxy.ts';
import { type Front, startAgentBehind, startFront } from '../support/front.ts';
import { pushImage } from '../support/images/push-image.ts';
import { buildSampleImage } from '../support/images/samples.ts';
import { canRun, containerdSkipReason } from '../support/real/components.ts';
import { type Containerd, startContainerd } from '../support/real/containerd.ts';
import { runCrictl } from '../support/real/crictl.ts';
import { writeHostsToml } from '../support/real/hosts-toml.ts';
import { testedVersion } from '../support/real/import-site.ts';
import { startRegistry } from '../support/real/registry.ts';
import { type RegistryGate, startRegistryGate } from '../support/real/registry-gate.ts';
import { makeTemporaryRoot } from '../support/real/temporary-root.ts';
import { callUnary, grpcClient, PULL } from '../unit/cri/grpc-peer.ts';

const ORIGIN = 'registry.shoal.test';
const P2P = 'registry.distributed.shoal.test:65001';
/** A registry that keeps whatever it is sent. */
const BAD_P2P = 'bad.distributed.shoal.test:65001';
const RULE = '*.shoal.test';
const USER = 'planted-user';
const PASSWORD = 'planted-password-3f9a71c4';
const REPOSITORY = 'team/app';
const INSIDE = 'SHOAL_TEST_OWN_NAMES';

/** Registries by name, on the ports that names without a port stand for: in namespaces of our own nobody else sees them. */
function runWithOwnNames(): number {
  using folder = makeTemporaryRoot('dns');
  const hosts = `${folder.path}/hosts`;
  writeFileSync(hosts, `127.0.0.1 localhost bad.shoal.test\n127.77.0.1 ${ORIGIN}\n`);
  const script = `ip link set lo up && mount --bind ${hosts} /etc/hosts && exec "$@"`;
  const command = ['sh', '-c', script, 'sh', process.execPath, ...process.execArgv, import.meta.filename];
  const env = { ...process.env, [INSIDE]: '1', SHOAL_FRONT_P2P_ADDRESSES: RULE };
  return spawnSync('unshare', ['--mount', '--net', ...command], { env, stdio: 'inherit' }).status ?? 1;
}

if (!canRun(containerdSkipReason(testedVersion, 'crictl-go', 'registry'))) {
  test.run();
} else if (process.env[INSIDE] === undefined) {
  process.exitCode = runWithOwnNames();
} else {
  let site: Awaited<ReturnType<typeof startSite>>;
  test.before(async () => {
    site = await startSite();
  });
  test.after(() => site[Symbol.asyncDispose]());

  test('a P2P address is pulled by Shoal, exists under both names, and is removed by either', async () => {
    const id = await site.pull({ optIn: true, serverAddress: P2P });
    assert.is(id, site.imageId);
    assert.match(site.agent.log(), /"message":"pulled"/);
    await checkNames(site);
  });

  test('a P2P address without a tag or with a digest exists as it was asked for', async () => {
    const byDigest = `${P2P}/${REPOSITORY}@${site.digest}`;
    for (const [image, shown] of [
      [`${P2P}/${REPOSITORY}`, `${P2P}/${REPOSITORY}:latest`],
      [byDigest, byDigest],
      [`${P2P}/${REPOSITORY}:v1@${site.digest}`, byDigest],
    ] as const)
      for (const optIn of [true, false]) {
        assert.is(await site.pull({ optIn, image }), site.imageId, image);
        const status = await statusOf(site, shown);
        assert.is(status?.id, site.imageId, shown);
        await remove(site, shown);
      }
  });

  test('a P2P address that is not accelerated is pulled by containerd from its origin', async () => {
    const before = pulledByShoal(site.agent);
    assert.is(await site.pull({ optIn: false }), site.imageId);
    assert.is(pulledByShoal(site.agent), before, 'containerd has pulled');
    await checkNames(site);
  });

  test('a P2P address is pulled with policy off', async () => {
    await using off = await startAgent({
      name: 'off',
      containerd: site.containerd.socket,
      containerdConfigPath: site.configPath,
      settings: {
        policy: { mode: 'off' },
        p2p: { addresses: [RULE], v2: { cache: { directory: `${site.configPath}/cache` } } },
      },
    });
    assert.is(await site.pull({ optIn: true, socket: off.criSocket }), site.imageId);
    await checkNames(site);
  });

  test('a tag that has moved takes its P2P name along', async () => {
    const image = `${P2P}/${REPOSITORY}:moving`;
    for (const optIn of [true, false]) {
      for (const seed of ['one', `moved-${optIn}`]) {
        const pushed = await site.push('moving', seed);
        assert.is(await site.pull({ optIn, image }), pushed.imageId);
        assert.is((await statusOf(site, image))?.id, pushed.imageId);
      }
      await runCrictl({ endpoint: site.front.socket }, 'rmi', image);
      await remove(site, site.imageId);
    }
  });

  test('credentials for either form of the host are sent to it, by Shoal and by containerd', async () => {
    for (const serverAddress of [P2P, `https://${P2P}`, ORIGIN, `https://${ORIGIN}`, undefined])
      for (const optIn of [true, false]) {
        assert.is(await site.pull({ optIn, serverAddress }), site.imageId, `${serverAddress} ${optIn}`);
        await remove(site, `${P2P}/${REPOSITORY}:v1`);
      }
    assert.is(
      await site.pull({ optIn: true, image: `${ORIGIN}/${REPOSITORY}:v1`, serverAddress: P2P }),
      site.imageId,
    );
    await remove(site, `${ORIGIN}/${REPOSITORY}:v1`);
  });

  test('credentials for one host are not sent to another', async () => {
    for (const serverAddress of [P2P, ORIGIN, `https://${P2P}`])
      for (const optIn of [true, false]) {
        const image = `${BAD_P2P}/${REPOSITORY}:v1`;
        const failure = await site
          .pull({ optIn, image, serverAddress })
          .catch((error: Error) => error.message);
        assert.match(
          failure,
          /\b401\b|authorization failed|no basic auth credentials/,
          `${serverAddress} ${optIn}`,
        );
      }
    const sent = site.toBad.captured().toString('latin1');
    assert.match(sent, 'GET /v2/', 'the bad registry was asked');
    assert.not.match(sent, /authorization: basic/i);
    for (const secret of [PASSWORD, basic(PASSWORD)]) assert.not.match(sent, secret);
    await site.pull({ optIn: true, image: `${BAD_P2P}/${REPOSITORY}:v1` }).catch(() => undefined);
    assert.match(site.toBad.captured().toString('latin1'), basic(PASSWORD), 'the search finds what is sent');
  });

  test('shoal pull takes a P2P address and stores the image under its origin’s name', async () => {
    const user = { username: USER, password: PASSWORD };
    const done = await pullToEnd(site.agent.pull(`${P2P}/${REPOSITORY}:v1`, undefined, user));
    assert.is(done.imageId, site.imageId);
    assert.is((await statusOf(site, `${ORIGIN}/${REPOSITORY}:v1`))?.id, site.imageId);
    await remove(site, site.imageId);
  });

  test('no rule, no mapping: a stranger’s domain is not taken for a P2P address', async () => {
    const failure = await site
      .pull({ optIn: true, image: 'registry.distributed.other.test:65001/a:v1' })
      .catch(String);
    assert.not.match(failure, / registry\.other\.test/);
    assert.match(failure, /registry\.distributed\.other\.test:65001/);
  });

  test('a P2P address is pulled by containerd when the agent is dead', async () => {
    site.agent.kill('SIGKILL');
    await site.front.waitForAgent('gone');
    assert.is(await site.pull({ optIn: true, serverAddress: P2P }), site.imageId);
    await checkNames(site);
  });

  test.run();
}

interface Pull {
  readonly optIn: boolean;
  readonly image?: string;
  readonly serverAddress?: string | undefined;
  readonly socket?: string;
}

interface Image {
  readonly id: string;
  readonly repoTags: readonly string[];
  readonly repoDigests: readonly string[];
}

interface Site {
  readonly front: Front;
  readonly containerd: Containerd;
  readonly imageId: string;
  readonly digest: string;
}

/** Both names are there, one takes the other along, and nothing stays. */
async function checkNames(of: Site): Promise<void> {
  const p2p = `${P2P}/${REPOSITORY}`;
  const status = await statusOf(of, `${p2p}:v1`);
  assert.is(status?.id, of.imageId);
  assert.equal(
    [...(status?.repoTags ?? [])].sort(),
    [`${P2P}/${REPOSITORY}:v1`, `${ORIGIN}/${REPOSITORY}:v1`].sort(),
  );
  assert.ok(status?.repoDigests.includes(`${p2p}@${of.digest}`), `${status?.repoDigests}`);
  await remove(of, `${p2p}:v1`);
  assert.is(await statusOf(of, `${ORIGIN}/${REPOSITORY}:v1`), undefined);
}

async function statusOf({ front }: Site, image: string): Promise<Image | undefined> {
  const answer = await runCrictl<{ image?: Image }>({ endpoint: front.socket }, 'inspecti', image).catch(
    () => undefined,
  );
  return answer?.image;
}

async function remove({ front, containerd }: Site, image: string): Promise<void> {
  await runCrictl({ endpoint: front.socket }, 'rmi', image);
  assert.is((await containerd.ctr('images', 'ls', '-q')).trim(), '', 'records that stay');
}

function pulledByShoal(agent: Agent): number {
  return agent.log().split('"message":"pulled"').length;
}

function basic(password: string): string {
  return Buffer.from(`${USER}:${password}`).toString('base64');
}

/** What kubelet sends: spec with the pod's annotations, credentials, and fields of later versions. */
function pullRequest({ image = `${P2P}/${REPOSITORY}:v1`, optIn, serverAddress }: Pull): Buffer {
  const text = (field: number, value: string) => writeField(field, Buffer.from(value));
  const mode = Buffer.concat([text(1, 'k8s.aliyun.com/image-accelerate-mode'), text(2, 'p2p')]);
  const spec = Buffer.concat([text(1, image), ...(optIn ? [writeField(2, mode)] : [])]);
  const auth = [text(1, USER), text(2, PASSWORD), ...(serverAddress ? [text(4, serverAddress)] : [])];
  return Buffer.concat([
    writeField(1, spec),
    text(200, 'of a later version'),
    writeField(2, Buffer.concat(auth)),
  ]);
}

async function startSite() {
  await using stack = new AsyncDisposableStack();
  const registry = stack.use(await startRegistry());
  const users = { basic: { user: USER, password: PASSWORD } };
  const gate: RegistryGate = stack.use(
    await startRegistryGate({ upstream: registry.url, address: '127.77.0.1', port: 80, ...users }),
  );
  const badGate = stack.use(
    await startRegistryGate({ upstream: registry.url, basic: { user: USER, password: 'another' } }),
  );
  const toBad: CapturingProxy = stack.use(await startCapturingProxy(badGate.host, 80));
  const folder = stack.use(makeTemporaryRoot('p2p'));
  for (const name of [ORIGIN, 'bad.shoal.test'])
    writeHostsToml({ configPath: folder.path, registry: name, server: `http://${name}`, hosts: [] });
  const push = async (tag: string, seed: string) => {
    using image = await buildSampleImage({ layerSizesBytes: [300_000], compression: ['gzip'], seed });
    await pushImage(image, { host: registry.host, repository: REPOSITORY, tag });
    return { imageId: image.config.digest as string, digest: image.root.digest as string };
  };
  const { imageId, digest } = await push('v1', 'one');
  await push('latest', 'one');
  const containerd = stack.use(await startContainerd({ version: testedVersion, configPath: folder.path }));
  const front = stack.use(await startFront({ containerd: containerd.socket }));
  const agent = stack.use(
    await startAgentBehind(front, {
      containerd: containerd.socket,
      containerdConfigPath: folder.path,
      settings: { p2p: { addresses: [RULE] }, policy: { mode: 'opt-in' }, log: { level: 'debug' } },
    }),
  );
  const pull = async (request: Pull): Promise<string> => {
    const client = grpcClient(request.socket ?? front.socket);
    try {
      const { bytes, error } = await callUnary(client, PULL, pullRequest(request));
      if (bytes === undefined) throw new Error(error?.details);
      return bytes.subarray(2).toString();
    } finally {
      client.close();
    }
  };
  const owned = stack.move();
  return {
    ...{ front, agent, containerd, gate, toBad, imageId, digest, push, pull },
    configPath: folder.path,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
