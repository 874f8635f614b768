// time limit: 180 s
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { buildSampleImage } from '../support/images/samples.ts';
import { assertNothingLeft, startNodeSite, startOriginSite } from '../support/pull-site.ts';
import {
  canRun,
  componentPath,
  componentsAvailable,
  containerdSkipReason,
} from '../support/real/components.ts';
import type { ContainerdOptions } from '../support/real/containerd.ts';
import { pull, runContainer, runCrictl } from '../support/real/crictl.ts';
import {
  fileSystemSkipReason,
  kernelSkipReason,
  loopFileSystem,
  makeImage,
} from '../support/real/file-system.ts';
import { testedVersion } from '../support/real/import-site.ts';

const MB = 1_000_000;
/** Each snapshot of blockfile is a copy of it. */
const SCRATCH_BYTES = 32 * MB;

if (canRun(containerdSkipReason(testedVersion, 'crictl-go'))) {
  // The 2.4 that is built here is built without C, and so without btrfs.
  if (testedVersion !== '2.4' && canRun(fileSystemSkipReason('btrfs')))
    test('btrfs: containerd unpacks what Shoal fetched, and runs it', async () => {
      await using disk = await loopFileSystem(400 * MB, 'btrfs');
      await pullAndRun('btrfs', { root: disk.path, extraConfig: { disabled_plugins: [] } });
    });

  if (canRun(fileSystemSkipReason('ext4')))
    test('blockfile: containerd unpacks what Shoal fetched, and runs it', async () => {
      await using disk = await loopFileSystem(1000 * MB, 'tmpfs');
      const scratch = join(disk.path, 'scratch');
      makeImage('ext4', scratch, SCRATCH_BYTES);
      await pullAndRun('blockfile', {
        root: disk.path,
        extraConfig: {
          plugins: { 'io.containerd.snapshotter.v1.blockfile': { scratch_file: scratch, fs_type: 'ext4' } },
        },
      });
    });

  // 1.7 has no such snapshotter.
  if (testedVersion !== '1.7' && canRun(componentsAvailable('erofs-utils') ?? kernelSkipReason('erofs')))
    test('erofs: containerd unpacks what Shoal fetched, and runs it', () =>
      pullAndRun('erofs', {
        programs: [componentPath('erofs-utils')],
        extraConfig: {
          plugins: { 'io.containerd.service.v1.diff-service': { default: ['erofs', 'walking'] } },
        },
      }));
}

test.run();

/** Nothing is fetched twice: what the agent brought must be what containerd unpacked. */
async function pullAndRun(snapshotter: string, options: ContainerdOptions): Promise<void> {
  await using origin = await startOriginSite();
  await using node = await startNodeSite({
    origin,
    containerd: { ...options, snapshotter, extraConfig: withUnpack(snapshotter, options.extraConfig) },
  });
  using image = await buildSampleImage({ layerSizesBytes: [2 * MB, MB], seed: snapshotter });
  const { reference } = await origin.push(image, snapshotter);
  origin.gate.reset();
  assert.is(await pull(node.cri, reference), image.config.digest);
  assert.match(node.agent.log(), /"message":"pulled"/);
  const { bytes } = origin.gate.count({ class: 'blob' });
  assert.ok(bytes < 1.05 * image.layerBytes, `${bytes} bytes of ${image.layerBytes} were fetched`);
  assert.match(await node.containerd.ctr('snapshots', '--snapshotter', snapshotter, 'ls'), /Committed/);
  const { exitCode } = await runContainer(node.cri, { image: reference, command: ['/bin/true'] });
  assert.is(exitCode, 0);
  await runCrictl(node.cri, 'rmi', reference);
  await assertNothingLeft(node);
}

/** containerd 2.x pulls only for snapshotters that are named here. */
function withUnpack(snapshotter: string, extraConfig: ContainerdOptions['extraConfig'] = {}) {
  if (testedVersion === '1.7') return extraConfig;
  const platform = `linux/${process.arch === 'x64' ? 'amd64' : process.arch}`;
  const differ = snapshotter === 'erofs' ? 'erofs' : 'walking';
  const plugins = {
    ...(extraConfig.plugins as object | undefined),
    'io.containerd.transfer.v1.local': { unpack_config: [{ platform, snapshotter, differ }] },
  };
  return { ...extraConfig, plugins };
}
