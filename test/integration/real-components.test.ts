// time limit: 120 s
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { pushImage } from '../support/images/push-image.ts';
import { buildSampleImage, buildSandboxImage } from '../support/images/samples.ts';
import { canRun, componentsAvailable, containerdSkipReason } from '../support/real/components.ts';
import { startContainerd } from '../support/real/containerd.ts';
import type { ContainerdVersion } from '../support/real/containerd-config.ts';
import {
  type CriCallError,
  findCrictl,
  pull,
  runContainer,
  runCrictl,
  runRealCrictl,
} from '../support/real/crictl.ts';
import { fileSystemSkipReason, loopFileSystem } from '../support/real/file-system.ts';
import { writeHostsToml } from '../support/real/hosts-toml.ts';
import { startKubelet } from '../support/real/kubelet.ts';
import { mountsBelow } from '../support/real/mounts.ts';
import { startRegistry } from '../support/real/registry.ts';
import { startRegistryGate } from '../support/real/registry-gate.ts';
import { shimPids } from '../support/real/shims.ts';
import { makeTemporaryRoot } from '../support/real/temporary-root.ts';

const version = (process.env.CONTAINERD ?? '2.1') as ContainerdVersion;
/** Asks for more than the default, to see that settings arrive. */
const extraConfig = { debug: { level: 'debug' } };
const LAYERS_BYTES = [2_000_000, 1_000_000, 500_000];

if (canRun(containerdSkipReason(version, 'crictl-go'))) {
  test('containerd pulls a pushed image, runs a container from it, and nothing is left', async () => {
    await using site = await startSite();
    const { containerd, cri, image, reference } = site;
    assert.match(await containerd.ctr('version'), version);
    assert.match(containerd.log(), 'level=debug');
    assert.match(await pull(cri, reference), image.config.digest);
    const command = ['/bin/sh', '-c', 'stat -c %s /data/0; echo "$0"; exit 7', 'a word'];
    const result = await runContainer(cri, { image: reference, command });
    assert.equal([result.exitCode, result.output], [7, `${LAYERS_BYTES[0]}\na word\n`]);

    await runCrictl(cri, 'rmi', reference);
    const failure = await runCrictl(cri, 'inspecti', reference).catch((error: CriCallError) => error);
    assert.is((failure as CriCallError).code, 'NotFound');
  });

  if (findCrictl() !== null) {
    test('crictl from PATH pulls as well', async () => {
      await using site = await startSite();
      assert.match(await runRealCrictl(site.cri, 'pull', site.reference), 'Image is up to date');
    });
  }

  test('hosts.toml sends containerd to a mirror, which can be limited and watched', async () => {
    await using site = await startSite();
    await using gate = await startRegistryGate({ upstream: site.registry.url });
    using folder = makeTemporaryRoot('hosts');
    const hosts = [{ url: gate.url }];
    writeHostsToml({
      configPath: folder.path,
      registry: 'registry.test',
      server: 'http://127.0.0.1:9',
      hosts,
    });
    await using containerd = await startContainerd({ version, configPath: folder.path });
    await pull({ endpoint: containerd.socket }, 'registry.test/team/app:v1');
    assert.is(gate.count({ class: 'blob' }).bytes, site.image.layerBytes + site.image.config.size);
    assert.match(gate.requests({ class: 'manifest' })[0]?.path ?? '', 'ns=registry.test');
  });

  test('containers outlive a killed containerd, and stop() ends them all the same', async () => {
    const site = await startSite();
    const { containerd, cri } = site;
    try {
      await startSleeper(site);
      await containerd.kill('SIGKILL');
      await containerd.start();
      const { containers } = await runCrictl<{ containers: { state: string }[] }>(cri, 'ps');
      assert.equal(
        containers.map((container) => container.state),
        ['CONTAINER_RUNNING'],
      );
      await containerd.kill('SIGKILL');
    } finally {
      await site[Symbol.asyncDispose]();
    }
    assertNothingLeft(containerd.socket, containerd.stateDir);
  });

  test('what a killed test process leaves is swept by the next one', async () => {
    const child = spawn(process.execPath, ['--no-warnings', import.meta.filename], {
      env: { ...process.env, LEAVE_BEHIND: '1' },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [line] = (await once(child.stdout, 'data')) as [Buffer];
    const { socket, stateDir } = JSON.parse(line.toString()) as { socket: string; stateDir: string };
    child.kill('SIGKILL');
    await once(child, 'exit');
    assert.ok(shimPids(socket).length > 0 && existsSync(stateDir));
    const sweeper = resolve(import.meta.dirname, '../support/real/temporary-root.ts');
    const script = `import(${JSON.stringify(sweeper)}).then((module) => module.makeTemporaryRoot('sweep'))`;
    await once(spawn(process.execPath, ['--no-warnings', '-e', script], { stdio: 'inherit' }), 'exit');
    assertNothingLeft(socket, stateDir);
  });

  const kind = 'ext4';
  if (canRun(fileSystemSkipReason(kind))) {
    test('containerd works on a file system of its own, which can be measured and removed', async () => {
      await using disk = await loopFileSystem(256 * 2 ** 20, kind);
      const emptyBytes = disk.usedBytes();
      {
        await using site = await startSite(disk.path);
        await pull(site.cri, site.reference);
        assert.ok(disk.usedBytes() - emptyBytes > site.image.layerBytes);
      }
      await disk.stop();
      assert.equal(mountsBelow(disk.path), []);
    });
  }

  if (process.env.CONTAINERD !== undefined && canRun(componentsAvailable('kubelet'))) {
    test('kubelet pulls and runs a static pod', async () => {
      await using site = await startSite();
      await using kubelet = await startKubelet({ runtimeEndpoint: site.containerd.socket });
      kubelet.addPod({
        name: 'hello',
        image: site.reference,
        command: ['/bin/true'],
        annotations: { key: 'on' },
      });
      const container = await kubelet.waitForPod('hello', { state: 'CONTAINER_EXITED' });
      assert.match(container.imageRef, 'sha256:');
    });
  }
}

if (process.env.LEAVE_BEHIND === undefined) test.run();
else await leaveBehind();

type Site = Awaited<ReturnType<typeof startSite>>;

/** A registry with a sandbox and a sample image, and a containerd that can run pods from them. */
async function startSite(root?: string) {
  await using stack = new AsyncDisposableStack();
  const registry = stack.use(await startRegistry());
  const sandbox = stack.use(await buildSandboxImage());
  const image = stack.use(
    await buildSampleImage({
      layerSizesBytes: LAYERS_BYTES,
      compression: ['gzip', 'zstd', 'none'],
      indexed: true,
    }),
  );
  const target = { host: registry.host, tag: 'v1' };
  const sandboxImage = (await pushImage(sandbox, { ...target, repository: 'pause' })).reference;
  const { reference } = await pushImage(image, { ...target, repository: 'team/app' });
  const containerd = stack.use(
    await startContainerd({ version, sandboxImage, extraConfig, ...(root !== undefined && { root }) }),
  );
  const owned = stack.move();
  const cri = { endpoint: containerd.socket };
  return { registry, image, reference, containerd, cri, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

async function startSleeper({ cri, reference }: Site): Promise<void> {
  using folder = makeTemporaryRoot('pod');
  const [pod, container] = [`${folder.path}/pod.json`, `${folder.path}/container.json`];
  const network = { security_context: { namespace_options: { network: 2 } } };
  writeFileSync(pod, JSON.stringify({ metadata: { name: 'p', uid: 'u', namespace: 'n' }, linux: network }));
  const sleeper = {
    metadata: { name: 'c' },
    image: { image: reference },
    command: ['/bin/sleep', '1000'],
    linux: {},
  };
  writeFileSync(container, JSON.stringify(sleeper));
  await pull(cri, reference);
  const { podId } = await runCrictl<{ podId: string }>(cri, 'runp', pod);
  const { containerId } = await runCrictl<{ containerId: string }>(cri, 'create', podId, container, pod);
  await runCrictl(cri, 'start', containerId);
}

/** What the killed process of a test does: runs a container and waits to be killed. */
async function leaveBehind(): Promise<void> {
  const site = await startSite();
  await startSleeper(site);
  const { socket, stateDir } = site.containerd;
  process.stdout.write(`${JSON.stringify({ socket, stateDir })}\n`);
  setInterval(() => {}, 1 << 30);
}

function assertNothingLeft(socket: string, stateDir: string): void {
  const root = resolve(stateDir, '..');
  assert.equal(shimPids(socket), []);
  assert.equal(mountsBelow(root), []);
  assert.not(existsSync(root));
  const naming = readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .filter((pid) => commandLine(pid).includes(`${root}/`));
  assert.equal(naming, []);
}

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}
