// time limit: 120 s
// The plugin as one that the runtime starts by itself, from its folder of plugins and with its configuration file. The
// containerd that CONTAINERD names (1.7, 2.1, 2.4).
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { resolve } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { pushImage } from '../support/images/push-image.ts';
import { buildSampleImage, buildSandboxImage } from '../support/images/samples.ts';
import { type PodListener, startPodListener } from '../support/nri-agent.ts';
import { eventually } from '../support/pull-site.ts';
import { canRun, containerdSkipReason } from '../support/real/components.ts';
import { type Containerd, startContainerd } from '../support/real/containerd.ts';
import { type CrictlOptions, pull, runContainer, runCrictl } from '../support/real/crictl.ts';
import { testedVersion } from '../support/real/import-site.ts';
import { startRegistry } from '../support/real/registry.ts';
import { makeTemporaryRoot } from '../support/real/temporary-root.ts';

const INSTALL = resolve(import.meta.dirname, '../../nri/install.sh');
const LAUNCHED = resolve(import.meta.dirname, '../../nri/main.ts');
const MODE = 'test.example/image-accelerate-mode';

const test = suite(`pre-installed NRI plugin on containerd ${testedVersion}`);

if (canRun(containerdSkipReason(testedVersion, 'crictl-go'))) {
  test('install.sh writes one executable with absolute paths, and refuses a place that is none', () => {
    using folder = makeTemporaryRoot('ins');
    execFileSync(INSTALL, [`${folder.path}/plugins`, '07'], { env: {} });
    assert.equal(readdirSync(`${folder.path}/plugins`), ['07-shoal']);
    assert.is(statSync(`${folder.path}/plugins/07-shoal`).mode & 0o777, 0o755);
    assert.throws(() => execFileSync(INSTALL, [folder.path, '7'], { stdio: 'pipe' }), /two digits/);
  });

  test('containerd starts it, configures it, tells it of pods, and ends it', async () => {
    using agent = await startPodListener();
    await using installed = await startInstalled(
      `keyPrefix: test.example\nagentSocket: ${agent.socketPath}\n`,
    );
    await tellsOfPods(installed.site, agent);
    const [pid] = installed.plugins();
    assert.type(pid, 'number');
    await installed.site.containerd.kill('SIGTERM');
    const left = await eventually(
      () => installed.plugins(),
      (pids) => pids.length === 0,
    );
    assert.equal(left, []);
    await installed.site.containerd.start();
    await criIsReady(installed.site.cri);
    await eventually(
      () => agent.readerCount(),
      (count) => count === 1,
    );
    assert.is(installed.plugins().length, 1);
  });

  test('a wrong configuration neither keeps containerd from starting nor fails a pod', async () => {
    await using installed = await startInstalled('keyPrefix: "Not A Name"\n');
    const { site } = installed;
    await pull(site.cri, site.reference);
    const run = {
      image: site.reference,
      command: ['/bin/busybox', 'true'],
      podAnnotations: { [MODE]: 'p2p' },
    };
    assert.is((await runContainer(site.cri, run)).exitCode, 0);
  });

  test('a killed one fails no pod', async () => {
    using agent = await startPodListener();
    await using installed = await startInstalled(
      `keyPrefix: test.example\nagentSocket: ${agent.socketPath}\n`,
    );
    for (const pid of installed.plugins()) process.kill(pid, 'SIGKILL');
    const { site } = installed;
    await pull(site.cri, site.reference);
    const run = {
      image: site.reference,
      command: ['/bin/busybox', 'true'],
      podAnnotations: { [MODE]: 'p2p' },
    };
    assert.is((await runContainer(site.cri, run)).exitCode, 0);
  });
}

test.run();

interface Site {
  readonly containerd: Containerd;
  readonly cri: CrictlOptions;
  readonly reference: string;
}

interface Installed extends AsyncDisposable {
  readonly site: Site;
  /** Processes of the plugin that this containerd has started. */
  plugins(): number[];
}

async function startInstalled(config: string): Promise<Installed> {
  await using stack = new AsyncDisposableStack();
  const folder = stack.use(makeTemporaryRoot('pre'));
  const [plugins, configs] = [`${folder.path}/plugins`, `${folder.path}/conf.d`];
  execFileSync(INSTALL, [plugins, '40'], { env: {} });
  mkdirSync(configs);
  writeFileSync(`${configs}/40-shoal.conf`, config);
  const nri = { plugin_path: plugins, plugin_config_path: configs };
  const extraConfig = { plugins: { 'io.containerd.nri.v1.nri': nri } };
  const registry = stack.use(await startRegistry());
  const [sandbox, image] = [
    stack.use(await buildSandboxImage()),
    stack.use(await buildSampleImage({ layerSizesBytes: [10_000] })),
  ];
  const target = { host: registry.host, tag: 'v1' };
  const sandboxImage = (await pushImage(sandbox, { ...target, repository: 'pause' })).reference;
  const { reference } = await pushImage(image, { ...target, repository: 'team/app' });
  const containerd = stack.use(await startContainerd({ version: testedVersion, sandboxImage, extraConfig }));
  const cri = { endpoint: containerd.socket };
  await criIsReady(cri);
  const owned = stack.move();
  return {
    site: { containerd, cri, reference },
    plugins: () => childrenOf(containerd.pid()).filter(isPlugin),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** CRI is there only after the plugins: containerd answers other calls before. */
async function criIsReady(cri: CrictlOptions): Promise<void> {
  const failure = await eventually(
    () => runCrictl(cri, 'status').then(() => undefined, String),
    (problem) => problem === undefined,
  );
  assert.is(failure, undefined);
}

async function tellsOfPods(site: Site, agent: PodListener): Promise<void> {
  await pull(site.cri, site.reference);
  await eventually(
    () => agent.readerCount(),
    (count) => count === 1,
  );
  // The first sync is over before messages about single pods follow.
  await agent.waitFor('/v1/pods/sync', 1);
  const command = ['/bin/busybox', 'true'];
  await runContainer(site.cri, { image: site.reference, command, podAnnotations: { [MODE]: 'p2p' } });
  const [started] = await agent.waitFor('/v1/pods', 1);
  assert.equal(started?.body.annotations, { [MODE]: 'p2p' });
  await agent.waitFor('/v1/pods/removed', 1);
}

function childrenOf(parent: number): number[] {
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => Number.isInteger(pid) && parentOf(pid) === parent);
}

function parentOf(pid: number): number {
  try {
    return Number(/^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
  } catch {
    return 0;
  }
}

function isPlugin(pid: number): boolean {
  try {
    const isNode = readlinkSync(`/proc/${pid}/exe`).endsWith('/node');
    return isNode && existsSync(LAUNCHED) && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(LAUNCHED);
  } catch {
    return false;
  }
}
