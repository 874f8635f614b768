import type { LayerEntry } from './layer-tar.ts';

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

/** Three layers, one on the other, with what trees can get wrong: whiteouts, links as parents, owners, times, attributes. */
export const treeCorpus: readonly { readonly entries: LayerEntry[] }[] = [
  { entries: lower },
  { entries: upper },
  { entries: third },
];
