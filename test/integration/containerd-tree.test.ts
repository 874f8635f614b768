// time limit: 120 s
import { createHash } from 'node:crypto';
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { lgetxattr, llistxattr } from '../../shim/base/posix.ts';
import { buildImage } from '../support/images/build-image.ts';
import type { LayerEntry } from '../support/images/layer-tar.ts';
import { busyboxLayer } from '../support/images/samples.ts';
import { canRun, containerdSkipReason } from '../support/real/components.ts';
import { type Containerd, startContainerd } from '../support/real/containerd.ts';
import { pull } from '../support/real/crictl.ts';
import { addMissingLayers } from '../support/real/import-image.ts';
import { startImportSite, testedVersion } from '../support/real/import-site.ts';

const signal = new AbortController().signal;
const STARTED_MS = Date.now();
const UNPACK_TIME = 'unpacked-now';
const OLD = new Date(1_500_000_000_000);

const lowest: LayerEntry[] = [
  // An entry for the root, whiteouts with nothing and with something of the same layer to hide.
  { name: './', type: 'directory', mode: 0o700, uid: 7, mtime: OLD },
  { name: '.wh.absent', content: '' },
  { name: 'gone', content: 'hidden in the same layer' },
  { name: '.wh.gone', content: '' },
  { name: 'opaque/', type: 'directory', mode: 0o750, uid: 4, gid: 5 },
  { name: 'opaque/.wh..wh..opq', content: '' },
  { name: 'opaque/low', content: 'low' },
  {
    name: 'owned/',
    type: 'directory',
    mode: 0o2771,
    uid: 1000,
    gid: 1001,
    pax: { 'SCHILY.xattr.user.note': 'kept' },
  },
  { name: 'owned/deep/', type: 'directory', mode: 0o711, pax: { uid: '3000000', gid: '2500000' } },
  { name: 'owned/deep/old', mode: 0o600, content: 'old' },
  { name: 'removed', content: 'by the layer above' },
  { name: 'tree/a/b', content: 'an implied directory in the lowest layer' },
  { name: 'link-to-owned', type: 'symlink', linkname: 'owned' },
  { name: 'file-then-directory', content: 'file' },
];

const middle: LayerEntry[] = [
  { name: '.wh.removed', content: '', uid: 9, gid: 9 },
  { name: 'opaque/', type: 'directory', mode: 0o755 },
  { name: 'opaque/.wh..wh..opq', content: '' },
  { name: 'opaque/new', content: 'new' },
  // Directories that only the layer below names.
  { name: 'owned/deep/new', mode: 0o4755, uid: 12, content: 'setuid' },
  { name: 'owned/deep/.wh.old', content: '' },
  { name: 'owned/elsewhere/x', content: 'implied and nowhere below' },
  { name: 'file-then-directory/inside', content: 'a directory in place of a file' },
  { name: 'char', type: 'character-device', mode: 0o640, devmajor: 1, devminor: 3 },
  { name: 'block', type: 'block-device', mode: 0o640, devmajor: 7, devminor: 300 },
  { name: 'fifo', type: 'fifo', mode: 0o622 },
  { name: 'hard', content: 'one inode' },
  { name: 'hard-2', type: 'link', linkname: 'hard' },
  { name: 'capable', mode: 0o755, content: 'x', pax: { 'SCHILY.xattr.user.shoal': 'value' } },
  { name: `long/${'n'.repeat(200)}/${'m'.repeat(200)}`, content: 'long' },
  { name: 'when', content: 'time', mtime: OLD },
];

const top: LayerEntry[] = [
  // The directory is implied by two layers; its attributes are two layers down.
  { name: 'owned/deep/third', content: '3' },
  { name: 'opaque/third', content: '3' },
  { name: '.wh.tree', content: '' },
];

if (canRun(containerdSkipReason(testedVersion, 'crictl-go'))) {
  test('every snapshot equals the one that containerd unpacks, entry by entry', async () => {
    const layers = [{ entries: lowest }, { entries: middle }, { entries: top }, busyboxLayer()];
    const image = await buildImage({ layers, config: { Cmd: ['/bin/sh'] } });
    await using site = await startImportSite({ image });
    const session = await site.store.open(site.plan, signal);
    await addMissingLayers(session, site.plan, site.blobPath, signal);
    await session.finish(signal);
    await using rival = await startContainerd({ version: testedVersion });
    await pull({ endpoint: rival.socket }, site.reference);
    for (const { chainId } of site.plan.layers) {
      const [ours, theirs] = [await layerTree(site.containerd, chainId), await layerTree(rival, chainId)];
      assert.ok(ours.size > 1);
      assert.equal(Object.fromEntries(withoutUnpackTimes(ours, theirs)), Object.fromEntries(theirs));
    }
  });
}

test.run();

/**
 * containerd leaves the time of its unpack on directories that a layer implies, although it copies the lower directory's time first;
 * ours keep that of the lower directory.
 */
function withoutUnpackTimes(ours: Map<string, string>, theirs: Map<string, string>): Map<string, string> {
  const adjust = (name: string, facts: string): string =>
    theirs.get(name)?.includes(UNPACK_TIME)
      ? facts.replace(/ (\d{12,}[.\d]*|unpacked-now) /, ` ${UNPACK_TIME} `)
      : facts;
  return new Map([...ours].map(([name, facts]) => [name, adjust(name, facts)]));
}

/** All entries of one committed layer's own directory. */
async function layerTree(containerd: Containerd, chainId: string): Promise<Map<string, string>> {
  const key = `view-${createHash('md5').update(chainId).digest('hex')}`;
  // The view is collected sooner or later; its directory is the committed layer's.
  const mounts = await containerd.ctr('snapshots', 'view', '--target', '/nowhere', key, chainId);
  const found = /lowerdir=([^:,\s]+)/.exec(mounts)?.[1] ?? /(\/\S*\/fs)(\s|$)/.exec(mounts)?.[1];
  if (found === undefined) throw new Error(`no directory in ${mounts}`);
  const tree = new Map<string, string>();
  describe(found, '.', tree, new Map());
  return tree;
}

function describe(root: string, name: string, tree: Map<string, string>, inodes: Map<number, string>): void {
  const path = join(root, name);
  const stats = lstatSync(path);
  const first = stats.isDirectory() ? name : (inodes.get(stats.ino) ?? name);
  inodes.set(stats.ino, first);
  const xattrs = llistxattr(path)
    .sort()
    .map((key) => `${key}=${lgetxattr(path, key)}`);
  const time = stats.mtimeMs > STARTED_MS ? UNPACK_TIME : String(stats.mtimeMs);
  const content = stats.isFile() ? createHash('md5').update(readFileSync(path)).digest('hex') : '';
  const target = stats.isSymbolicLink() ? readlinkSync(path) : '';
  const facts = [
    stats.mode.toString(8),
    stats.uid,
    stats.gid,
    stats.rdev,
    stats.nlink,
    first,
    time,
    content,
    target,
  ];
  tree.set(name, [...facts, ...xattrs].join(' '));
  if (stats.isDirectory())
    for (const child of readdirSync(path)) describe(root, join(name, child), tree, inodes);
}
