// time limit: 120 s
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { lstatSync, mkdirSync, readdirSync } from 'node:fs';
import { promisify } from 'node:util';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { chainIdsOf, parseDigest } from '../../shim/base/digest.ts';
import { buildImage } from '../support/images/build-image.ts';
import type { LayerEntry } from '../support/images/layer-tar.ts';
import { busyboxLayer } from '../support/images/samples.ts';
import { startNodeSite, startOriginSite } from '../support/pull-site.ts';
import { canRun, containerdSkipReason } from '../support/real/components.ts';
import { type Containerd, startContainerd } from '../support/real/containerd.ts';
import { pull } from '../support/real/crictl.ts';
import { testedVersion } from '../support/real/import-site.ts';
import { makeTemporaryRoot } from '../support/real/temporary-root.ts';
import { diffTrees, listTree, type TreeListing } from '../unit/unpack/tree-listing.ts';

const STARTED_MS = Date.now();
const OLD = new Date(1_500_000_000_000);
/** cap_net_bind_service=ep in the second version of the format. */
const CAPABILITY = `\x01\0\0\x02\0\x04${'\0'.repeat(14)}`;
const LONG = `${'d'.repeat(120)}/${'e'.repeat(200)}/${'f'.repeat(255)}`;

const directory = (name: string, more: Partial<LayerEntry> = {}): LayerEntry => ({
  name: `${name}/`,
  type: 'directory',
  ...more,
});
const file = (name: string, content: string, more: Partial<LayerEntry> = {}): LayerEntry => ({
  name,
  content,
  ...more,
});

const lower: LayerEntry[] = [
  directory('empty', { mode: 0o1777, mtime: OLD }),
  directory('hidden'),
  file('hidden/below', 'an opaque directory of the next layer hides it'),
  directory('removed-tree/sub'),
  file('removed-tree/sub/file', 'goes with its directory'),
  file('removed', 'goes alone'),
  file('file-to-directory', 'file'),
  directory('directory-to-file'),
  file('directory-to-file/inside', 'gone'),
  directory('file-to-link-target'),
  file('file-to-link', 'file'),
  directory('real/deep', { mode: 0o750, uid: 10, gid: 20, mtime: OLD }),
  { name: 'by-link', type: 'symlink', linkname: 'real' },
  { name: 'by-absolute-link', type: 'symlink', linkname: '/real/deep' },
  file('by-link/through', 'a symlink as parent'),
  file('by-absolute-link/through', 'an absolute symlink as parent'),
  file('never/named/parents', 'directories that only this name implies'),
  file('hard', 'one inode, three names', { mode: 0o640, uid: 3 }),
  { name: 'hard-2', type: 'link', linkname: 'hard' },
  { name: 'real/hard-3', type: 'link', linkname: 'hard' },
];

const upper: LayerEntry[] = [
  directory('hidden', { mode: 0o711 }),
  file('hidden/.wh..wh..opq', ''),
  file('hidden/above', 'all that is left'),
  file('.wh.removed', ''),
  file('.wh.removed-tree', ''),
  directory('file-to-directory'),
  file('file-to-directory/inside', 'now below a directory'),
  file('directory-to-file', 'now a file'),
  { name: 'file-to-link', type: 'symlink', linkname: 'file-to-link-target', mtime: OLD },
  file('real/deep/later', 'in a directory that only the lower layer names'),
  file('by-link/later', 'a symlink of the lower layer as parent'),
  file('setuid', 'x', { mode: 0o4755, uid: 12, gid: 34 }),
  file('setgid', 'x', { mode: 0o2755, gid: 34 }),
  directory('shared', { mode: 0o3770, gid: 34 }),
  file('shared/inherits-nothing', 'x'),
  file(LONG, 'long'),
  file('capable', 'x', { mode: 0o755, pax: { 'SCHILY.xattr.security.capability': CAPABILITY } }),
  file('noted', 'x', { pax: { 'SCHILY.xattr.user.note': 'of a file' } }),
  directory('noted-directory', { pax: { 'SCHILY.xattr.user.note': 'of a directory' } }),
  { name: 'null', type: 'character-device', mode: 0o666, devmajor: 1, devminor: 3 },
  { name: 'disk', type: 'block-device', mode: 0o660, gid: 6, devmajor: 259, devminor: 70_000 },
  { name: 'pipe', type: 'fifo', mode: 0o622, uid: 4 },
  file('far-owner', 'x', { pax: { uid: '3000000', gid: '4000000000' } }),
  directory('far-owner-directory', { pax: { uid: '2097153', gid: '2097152' } }),
  file('between-seconds', 'x', { pax: { mtime: '1600000000.123456789' } }),
  directory('between-seconds-directory', { pax: { mtime: '1600000000.5' } }),
  { name: 'between-seconds-link', type: 'symlink', linkname: 'x', pax: { mtime: '1600000001.25' } },
  file('before-1970', 'x', { pax: { mtime: '-1.5' } }),
  file('ünïcödé 日本', 'x'),
  file('hard-2', 'no longer the same inode as hard'),
];

const third: LayerEntry[] = [
  file('real/deep/third', 'implied by three layers'),
  file('.wh.empty', ''),
  directory('removed-tree', { mode: 0o700 }),
  file('removed-tree/back', 'made anew over a whiteout'),
  file('third-hard', 'x'),
  { name: 'hard-new', type: 'link', linkname: 'third-hard' },
];

if (canRun(containerdSkipReason(testedVersion, 'crictl-go'))) {
  for (const compression of ['gzip', 'zstd', 'none'] as const) {
    test(`a tree from ${compression} layers equals the one of containerd's own pull, layer by layer and merged`, async () => {
      await using origin = await startOriginSite();
      const layers = [busyboxLayer(), { entries: lower }, { entries: upper }, { entries: third }];
      using image = await buildImage({ layers, compression, config: { Cmd: ['/bin/sh'] } });
      const { reference } = await origin.push(image, 'corpus');
      await using node = await startNodeSite();
      await using rival = await startContainerd({ version: testedVersion });
      await pull(node.cri, reference);
      assert.is((await node.agent.status()).totals.originBytes, image.layerBytes);
      await pull({ endpoint: rival.socket }, reference);

      for (const chainId of chainIdsOf(image.diffIds.map(parseDigest))) {
        const ours = await layerDirectory(node.containerd, chainId);
        const theirs = await layerDirectory(rival, chainId);
        assert.ok(compare(ours, theirs, { accessTimes: true }).size > 1);
      }
      const top = chainIdsOf(image.diffIds.map(parseDigest)).at(-1) ?? '';
      using root = makeTemporaryRoot('merged');
      const ours = await mountMerged(node.containerd, top, `${root.path}/ours`);
      const theirs = await mountMerged(rival, top, `${root.path}/theirs`);
      // Looking at the layers has moved them.
      const merged = compare(ours, theirs, { accessTimes: false });
      assert.ok(merged.size > 60);
      assert.match(merged.get('capable') ?? '', 'security.capability=01000002');
      assert.not(merged.has('removed') || merged.has('hidden/below'));
    });
  }
}

test.run();

function compare(ours: string, theirs: string, options: { readonly accessTimes: boolean }): TreeListing {
  const untimed = directoriesOfNow(theirs);
  const our = describe(ours, untimed, options.accessTimes);
  assert.equal(diffTrees(our, describe(theirs, untimed, options.accessTimes)), []);
  return our;
}

/** listTree() with the root, and each entry's link count. */
function describe(root: string, untimed: ReadonlySet<string>, accessTimes: boolean): TreeListing {
  const { mode, uid, gid } = lstatSync(root);
  const listing = new Map([['.', `${mode.toString(8)} ${uid} ${gid}`]]);
  for (const [path, facts] of listTree(root, untimed)) {
    const { nlink } = lstatSync(Buffer.concat([Buffer.from(`${root}/`), Buffer.from(path, 'latin1')]));
    listing.set(path, `${accessTimes ? facts : facts.replace(/ atime=\d+/, '')} nlink=${nlink}`);
  }
  return listing;
}

/** containerd leaves the time of its unpack on directories that no entry of the layer names. */
function directoriesOfNow(root: string): ReadonlySet<string> {
  const paths = readdirSync(root, { recursive: true, encoding: 'utf8' });
  const isOfNow = (path: string): boolean => {
    const stats = lstatSync(`${root}/${path}`);
    return stats.isDirectory() && stats.mtimeMs >= STARTED_MS;
  };
  return new Set(paths.filter(isOfNow));
}

/** The directory that holds what one committed layer adds. */
async function layerDirectory(containerd: Containerd, chainId: string): Promise<string> {
  const mounts = await viewOf(containerd, chainId, '/nowhere');
  const found = /lowerdir=([^:,\s]+)/.exec(mounts)?.[1] ?? /(\/\S*\/fs)(?:\s|$)/.exec(mounts)?.[1];
  if (found === undefined) throw new Error(`Cannot find the layer's directory in "${mounts}"`);
  return found;
}

/** Mounts what a container would see, below a folder that unmounts it when it goes. */
async function mountMerged(containerd: Containerd, chainId: string, target: string): Promise<string> {
  mkdirSync(target);
  const command = (await viewOf(containerd, chainId, target)).trim().split(/\s+/);
  assert.is(command.shift(), 'mount');
  await promisify(execFile)('mount', command);
  return target;
}

/** Makes a read-only view of a committed layer and gives the command that mounts it. */
async function viewOf(containerd: Containerd, chainId: string, target: string): Promise<string> {
  const key = `view-${createHash('sha256').update(`${chainId} ${target}`).digest('hex')}`;
  return await containerd.ctr('snapshots', 'view', '--target', target, key, chainId);
}
