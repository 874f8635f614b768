// time limit: 150 s
import { existsSync, readdirSync, symlinkSync } from 'node:fs';
import { dirname } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { chainIdsOf, parseDigest } from '../../shim/base/digest.ts';
import type { Agent } from '../support/agent.ts';
import { freePort } from '../support/free-port.ts';
import { type Front, startAgentBehind, startFront } from '../support/front.ts';
import { type BuiltImage, buildImage } from '../support/images/build-image.ts';
import { busyboxLayer } from '../support/images/samples.ts';
import { treeCorpus } from '../support/images/tree-corpus.ts';
import { eventually, startOriginSite } from '../support/pull-site.ts';
import { canRun, containerdSkipReason } from '../support/real/components.ts';
import { type Containerd, startContainerd } from '../support/real/containerd.ts';
import type { ConfigTable } from '../support/real/containerd-config.ts';
import { pull } from '../support/real/crictl.ts';
import { testedVersion } from '../support/real/import-site.ts';
import { compareTrees, layerDirectory } from '../support/real/snapshot-trees.ts';
import { makeTemporaryRoot } from '../support/real/temporary-root.ts';

if (canRun(containerdSkipReason(testedVersion, 'crictl-go'))) {
  for (const compression of ['gzip', 'zstd', 'none'] as const) {
    test(`a containerd that asks the agent to apply ${compression} layers gets the tree of its own differ`, async () => {
      await using origin = await startOriginSite();
      using image = await buildImage({ layers: [busyboxLayer(), ...treeCorpus], compression });
      const { reference } = await origin.push(image, 'corpus');
      await using site = await startDifferSite();
      await using rival = await startContainerd({ version: testedVersion });
      await Promise.all([pullDirectly(site.containerd, reference), pullDirectly(rival, reference)]);
      assert.equal(await site.outcomes(), { applied: image.diffIds.length, handedOver: 0 });
      for (const chainId of chainIdsOf(image.diffIds.map(parseDigest))) {
        const ours = await layerDirectory(site.containerd, chainId);
        const options = { accessTimes: true };
        assert.ok(compareTrees(ours, await layerDirectory(rival, chainId), options).size > 1);
        assert.equal(
          readdirSync(dirname(ours)).filter((name) => name.startsWith('.shoal')),
          [],
        );
      }
    });
  }

  test('a layer that is not applied here is applied by containerd: whatever the agent cannot or may not do', async () => {
    await using origin = await startOriginSite();
    using image = await bombImage();
    const { reference } = await origin.push(image, 'bomb');
    // More than a megabyte is a bomb to this agent, and fine with containerd.
    await using site = await startDifferSite({ limits: { unpackedBytesMax: 1024 ** 2 } });
    await pullDirectly(site.containerd, reference);
    assert.equal(await site.outcomes(), { applied: 1, handedOver: 1 });
    await assertUnpacked(site.containerd, image);
  });

  test('a containerd whose differ is an agent that died, or froze, pulls by its own', async () => {
    await using origin = await startOriginSite();
    await using site = await startDifferSite();
    for (const [signal, repository] of [
      ['SIGSTOP', 'frozen'],
      ['SIGKILL', 'dead'],
    ] as const) {
      using image = await imageNamed(repository);
      const { reference } = await origin.push(image, repository);
      site.agent.kill(signal);
      await site.front.waitForAgent('gone');
      await pullDirectly(site.containerd, reference);
      await assertUnpacked(site.containerd, image);
      if (signal === 'SIGSTOP') {
        site.agent.kill('SIGCONT');
        await site.front.waitForAgent('healthy');
      }
    }
  });

  test('an agent that dies in the middle of a layer leaves it to containerd', async () => {
    await using origin = await startOriginSite();
    using image = await bigImage();
    const { reference } = await origin.push(image, 'big');
    await using site = await startDifferSite();
    const pulled = pullDirectly(site.containerd, reference);
    await untilStaged(site.containerd);
    site.agent.kill('SIGKILL');
    await pulled;
    await assertUnpacked(site.containerd, image);
  });
}

test.run();

interface DifferSite extends AsyncDisposable {
  readonly containerd: Containerd;
  readonly front: Front;
  readonly agent: Agent;
  outcomes(): Promise<{ applied: number; handedOver: number }>;
}

/** A containerd that has its layers applied by the agent, through the front's socket. */
async function startDifferSite(settings: Readonly<Record<string, unknown>> = {}): Promise<DifferSite> {
  await using stack = new AsyncDisposableStack();
  const root = stack.use(makeTemporaryRoot('dif'));
  // containerd is there before the front: it dials when it has a layer.
  const socket = root.socketPath('d.sock');
  const containerd = stack.use(
    await startContainerd({ version: testedVersion, extraConfig: differConfig(socket) }),
  );
  const front = stack.use(await startFront({ containerd: containerd.socket }));
  symlinkSync(front.socket, socket);
  const port = await freePort();
  const agent = stack.use(
    await startAgentBehind(front, {
      containerd: containerd.socket,
      settings: { ...settings, ExporterConfig: { enable: true, standaloneExporterPort: true, port } },
    }),
  );
  const owned = stack.move();
  return {
    containerd,
    front,
    agent,
    outcomes: async () => {
      const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
      return { applied: counted(text, 'applied'), handedOver: counted(text, 'handedOver') };
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** What a user would write into containerd's configuration. */
function differConfig(address: string): ConfigTable {
  const proxyPlugins = { proxy_plugins: { shoal: { type: 'diff', address } } };
  const byList = { 'io.containerd.service.v1.diff-service': { default: ['shoal', 'walking'] } };
  const platform = `linux/${process.arch === 'arm64' ? 'arm64' : 'amd64'}`;
  const byUnpacker = {
    'io.containerd.transfer.v1.local': {
      unpack_config: [{ platform, snapshotter: 'overlayfs', differ: 'shoal' }],
    },
  };
  return { ...proxyPlugins, plugins: testedVersion === '1.7' ? byList : byUnpacker };
}

function counted(metrics: string, outcome: string): number {
  const line = metrics.match(
    new RegExp(`^shoal_applied_layers_total\\{outcome="${outcome}"\\} (\\d+)$`, 'm'),
  );
  return Number(line?.[1] ?? 0);
}

/** Past front and agent: containerd's own pull. */
async function pullDirectly(containerd: Containerd, reference: string): Promise<void> {
  await pull({ endpoint: containerd.socket }, reference);
}

function imageNamed(content: string): Promise<BuiltImage> {
  return buildImage({ layers: [{ entries: [{ name: 'name', content }] }] });
}

function bombImage(): Promise<BuiltImage> {
  const zeros = Buffer.alloc(5 * 1024 ** 2);
  return buildImage({
    layers: [
      { entries: [{ name: 'small', content: 'x' }] },
      { entries: [{ name: 'zeros', content: zeros }] },
    ],
  });
}

/** Takes some seconds to apply, in many small files. */
function bigImage(): Promise<BuiltImage> {
  const entries = Array.from({ length: 60_000 }, (_, index) => ({
    name: `${index % 100}/${index}`,
    content: 'x',
  }));
  return buildImage({ layers: [{ entries }] });
}

/** Resolves when the agent has begun to write a layer's tree. */
async function untilStaged({ root }: Containerd): Promise<void> {
  const begun = await eventually(
    () => stagedTrees(root).length > 0,
    (isBegun) => isBegun,
  );
  assert.ok(begun, 'a tree is being made');
}

function stagedTrees(root: string): string[] {
  const snapshots = `${root}/io.containerd.snapshotter.v1.overlayfs/snapshots`;
  const numbers = existsSync(snapshots) ? readdirSync(snapshots) : [];
  return numbers.flatMap((number) =>
    readdirSync(`${snapshots}/${number}`).filter((name) => name.startsWith('.shoal')),
  );
}

async function assertUnpacked(containerd: Containerd, image: BuiltImage): Promise<void> {
  const top = chainIdsOf(image.diffIds.map(parseDigest)).at(-1) ?? '';
  assert.ok(readdirSync(await layerDirectory(containerd, top)).length > 0);
}
