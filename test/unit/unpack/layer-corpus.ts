import { archive, base256, type EntryFields, entry, gnuLong, paxRecord, paxRecords } from './tar-builder.ts';

/** A layer's tar by the name of what is special about it. */
export interface CorpusLayer {
  readonly name: string;
  readonly tar: Buffer;
}

const utf8 = (text: string): string => Buffer.from(text).toString('latin1');
const long = (length: number): string => `${'d'.repeat(60)}/`.repeat(Math.ceil(length / 61)) + 'f'.repeat(10);
const dir = (name: string, more: Partial<EntryFields> = {}): EntryFields => ({
  name,
  type: '5',
  mode: 0o755,
  ...more,
});
const file = (name: string, data: string, more: Partial<EntryFields> = {}): EntryFields => ({
  name,
  data,
  ...more,
});
const symlink = (name: string, linkName: string, more: Partial<EntryFields> = {}): EntryFields => ({
  name,
  type: '2',
  linkName,
  mode: 0o777,
  ...more,
});
const hardlink = (name: string, linkName: string, more: Partial<EntryFields> = {}): EntryFields => ({
  name,
  type: '1',
  linkName,
  ...more,
});

const INT64_MAX = '9223372036854775807';

const ordinary: Record<string, (EntryFields | Buffer)[]> = {
  'plain files and directories': [
    dir('etc/', { mtime: 1_500_000_000 }),
    file('etc/passwd', 'root:x:0:0\n', { mode: 0o600, uid: 12, gid: 34, mtime: 1_400_000_000 }),
    file('etc/empty', ''),
    file('etc/block', 'x'.repeat(512)),
    file('etc/large', 'y'.repeat(300_000)),
  ],
  'dotted and absolute names': [
    dir('./'),
    dir('./a/'),
    file('./a/b', '1'),
    file('/abs/c', '2'),
    file('a//.//d', '3'),
  ],
  'implied parents': [file('x/y/z', '1'), file('p/q', '2'), dir('p/', { mode: 0o700, mtime: 5 })],
  'special modes': [
    file('suid', '1', { mode: 0o4755, uid: 5 }),
    file('sgid', '2', { mode: 0o2755, gid: 7 }),
    dir('tmp/', { mode: 0o1777 }),
    dir('shared/', { mode: 0o2775, gid: 50 }),
    file('shared/f', '3'),
    dir('shared/sub/', { mode: 0o755 }),
    file('shared/implied/f', '4'),
    file('none', '5', { mode: 0 }),
    dir('sealed/', { mode: 0o555 }),
    file('sealed/f', '6', { mode: 0o777 }),
  ],
  'hard links and symlinks': [
    file('a', '1', { uid: 3 }),
    hardlink('b', 'a', { mode: 0o600, mtime: 1_000 }),
    symlink('s', 'a', { mtime: 2_000, uid: 9 }),
    hardlink('t', 's', { mtime: 3_000 }),
    symlink('dangling', '/no/such/target'),
    symlink('dir', 'real/sub'),
    file('real/sub/f', '2'),
    file('dir/g', '3'),
    hardlink('h', 'dir/g'),
  ],
  'devices and fifos': [
    { name: 'null', type: '3', deviceMajor: 1, deviceMinor: 3, mode: 0o666 },
    { name: 'disk', type: '4', deviceMajor: 259, deviceMinor: 70_000, mode: 0o660, gid: 6 },
    { name: 'pipe', type: '6', mode: 0o622, uid: 4 },
    { name: 'zero', type: '3', mode: 0o600 },
  ],
  whiteouts: [
    dir('d/'),
    file('d/.wh..wh..opq', ''),
    file('d/kept', '1'),
    file('d/.wh.gone', '', { uid: 11, gid: 12 }),
    file('.wh.top', ''),
    file('n/.wh.e/below', '2'),
    file('d/.wh..wh.plnk', ''),
    file('implied/.wh..wh..opq', ''),
  ],
  'long names': [
    gnuLong('L', long(200)),
    file('ignored', '1'),
    gnuLong('K', long(200)),
    { name: 'link', type: '2', linkName: 'ignored', format: 'gnu' },
    file('ignored', '2', { pax: { path: long(900) } }),
    file('name', '3', { prefix: 'pre/fix' }),
    symlink('ignored', 'ignored', { pax: { path: 'pax-link', linkpath: long(300) } }),
    gnuLong('L', 'gnu-wins'),
    file('ignored', '4', { pax: { path: 'pax-loses' } }),
  ],
  'names that are no UTF-8': [
    file('\xff\xfe', '1'),
    dir('d\x80/'),
    file('d\x80/\xc3', '2'),
    symlink('l', '\xff\xfe'),
  ],
  'names of many scripts': [
    file(utf8('日本/ñ'), '1'),
    symlink(utf8('ñ'), utf8('日本')),
    file(utf8('ñ/🙂'), '2'),
  ],
  'owners beyond 21 bits': [
    file('a', '1', { uid: 3_000_000, gid: 4_000_000_000 }),
    file('b', '1', { pax: { uid: '2147483648', gid: '4294967294' } }),
    file('c', '1', { uid: base256(4_294_967_297n, 8) }),
    file('d', '1', { uid: base256(-1n, 8) }),
    file('e', '1', { pax: { uid: '4294967301' } }),
  ],
  times: [
    file('negative', '1', { mtime: base256(-1_000n, 12) }),
    file('nanoseconds', '1', { pax: { mtime: '1600000000.123456789999', atime: '1700000000.5' } }),
    file('early', '1', { pax: { mtime: '-1.5' } }),
    file('late', '1', { pax: { mtime: '9223372036.5' } }),
    file('too-late', '1', { pax: { mtime: '9223372037' } }),
    file('last-ns', '1', { pax: { mtime: '9223372036.854775807' } }),
    file('past-last-ns', '1', { pax: { mtime: '9223372036.854775808' } }),
    file('octal-late', '1', { mtime: 8_589_934_591 }),
    dir('dir/', { pax: { mtime: '1600000000.5' } }),
    symlink('link', 'x', { pax: { mtime: '1600000001.25' } }),
    file('atime-before', '1', { pax: { atime: '1' } }),
    file('gnu', '1', { format: 'gnu', raw: [[345, '14000000000\0']] }),
    file('gnu-prefix', '1', { format: 'gnu', prefix: 'old/go/prefix' }),
    file('star', '1', { format: 'star', prefix: 'star/prefix', raw: [[476, '14000000000\0']] }),
    file('zero', '1', { mtime: 0 }),
  ],
  'extended attributes': [
    file('cap', 'x', {
      mode: 0o4755,
      uid: 5,
      pax: {
        'SCHILY.xattr.security.capability':
          '\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00',
      },
    }),
    file('user', 'x', { pax: { 'SCHILY.xattr.user.a': 'v\x00w', 'SCHILY.xattr.user.empty': '' } }),
    dir('dir/', { pax: { 'SCHILY.xattr.user.d': '1' } }),
    file('trusted', 'x', { pax: { 'SCHILY.xattr.trusted.overlay.opaque': 'y' } }),
    symlink('link', 'x', { pax: { 'SCHILY.xattr.user.l': '1' } }),
    { name: 'fifo', type: '6', pax: { 'SCHILY.xattr.user.f': '1' } },
    dir('acl/', {
      pax: {
        'SCHILY.xattr.system.posix_acl_default':
          '\x02\0\0\0\x01\0\x07\0\xff\xff\xff\xff\x04\0\0\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff',
      },
    }),
    file('acl/f', '1', { mode: 0o666 }),
    dir('acl/sub/', { mode: 0o777 }),
  ],
  'other formats': [
    file('v7', '1', { format: 'v7' }),
    { name: 'v7-dir/', type: '\0', format: 'v7', mode: 0o700 },
    { name: 'old-file', type: '\0', data: '2' },
    file('slash/', '3'),
    file('signed\xe9', '4', { signedChecksum: true }),
    dir('dir-with-size/', { size: 4096 }),
    file('spaces', '5', { raw: [[100, '   644 \0']] }),
  ],
  'global headers': [
    entry({ name: 'pax_global_header', type: 'g', data: paxRecords({ comment: 'abc' }) }),
    file('a', '1'),
    entry({ name: 'a', type: 'g', data: paxRecords({ mtime: '7' }) }),
    entry({ name: 'lost', type: 'x', data: paxRecords({ path: 'renamed' }) }),
    entry({ name: 'deep/global', type: 'g', data: paxRecords({ comment: 'x' }) }),
    file('b', '2'),
  ],
  duplicates: [
    file('a', 'first', { mode: 0o600 }),
    file('a', 'second'),
    dir('d/', { mode: 0o700, mtime: 1 }),
    file('d/kept', '1'),
    dir('d/', { mode: 0o711, mtime: 2 }),
    file('e', '1'),
    dir('e/', { mtime: 3 }),
    dir('f/'),
    file('f/x', '1'),
    file('f', 'now a file', { mtime: 4 }),
    symlink('g', 'd'),
    dir('g/', { mtime: 5 }),
    symlink('h', 'd'),
    file('h', 'over a link'),
    dir('i/', { mtime: 6 }),
    symlink('i', 'd', { mtime: 7 }),
    hardlink('j', 'a'),
    file('j', 'over a hard link'),
    { name: 'k', type: '6' },
    symlink('k', 'a'),
    file('.wh.l', ''),
    file('l', 'over a whiteout'),
  ],
  'sparse files': [
    file('ignored', 'aaaabbbb', {
      pax: {
        'GNU.sparse.major': '0',
        'GNU.sparse.minor': '1',
        'GNU.sparse.name': 'sparse-0.1',
        'GNU.sparse.size': '100000',
        'GNU.sparse.numblocks': '3',
        'GNU.sparse.map': '0,4,50000,4,100000,0',
      },
    }),
    entry({
      name: 'pax',
      type: 'x',
      data: Buffer.concat([
        paxRecord('GNU.sparse.size', '7000'),
        paxRecord('GNU.sparse.numblocks', '2'),
        paxRecord('GNU.sparse.offset', '10'),
        paxRecord('GNU.sparse.numbytes', '4'),
        paxRecord('GNU.sparse.offset', '6996'),
        paxRecord('GNU.sparse.numbytes', '4'),
      ]),
    }),
    file('sparse-0.0', 'aaaabbbb'),
    file(
      'ignored',
      Buffer.concat([Buffer.from('2\n0\n3\n9000\n5\n'.padEnd(512, '\0')), Buffer.from('abcdefgh')]).toString(
        'latin1',
      ),
      {
        pax: {
          'GNU.sparse.major': '1',
          'GNU.sparse.minor': '0',
          'GNU.sparse.name': 'sparse-1.0',
          'GNU.sparse.realsize': '20000',
        },
      },
    ),
    file('all-hole', '', {
      pax: {
        'GNU.sparse.major': '0',
        'GNU.sparse.minor': '1',
        'GNU.sparse.realsize': '4096',
        'GNU.sparse.numblocks': '0',
      },
    }),
  ],
  'names that climb': [
    file('../up', '1'),
    file('a/../../b', '2'),
    file('../../../etc/c', '3'),
    dir('..'),
    file('/../d', '4'),
    dir('.'),
  ],
  'links in parents': [
    dir('real/'),
    symlink('abs', '/real'),
    file('abs/a', '1'),
    symlink('climbing', '../../../../real'),
    file('climbing/b', '2'),
    symlink('out', '/etc'),
    file('out/shoal-test', '3'),
    symlink('chain1', 'chain2'),
    symlink('chain2', 'real/deep'),
    file('chain1/c', '4'),
    symlink('real/deep/back', '../../real'),
    file('chain1/back/d', '5'),
    dir('chain1/back/e/', { mtime: 6 }),
    symlink('missing', 'not/there/yet'),
    file('missing/f', '7'),
    symlink('dot', './real/.'),
    file('dot/g', '8'),
    hardlink('hard', 'out/shoal-test'),
    hardlink('hard2', '../../../real/a'),
    symlink('self-parent', 'real/..'),
    file('self-parent/h', '9'),
  ],
  'write through a link': [
    symlink('link', '/etc/passwd'),
    file('link', 'replaced'),
    symlink('l2', '/etc'),
    dir('l2/'),
  ],
  'no end marker': [],
  'one entry without padding': [],
  'empty tar': [],
  'bytes after the end': [],
};

const refused: Record<string, (EntryFields | Buffer)[]> = {
  'a hard link outside': [hardlink('x', '/etc/passwd')],
  'a hard link to the root': [hardlink('x', '..')],
  'a hard link to a missing file': [file('a', '1'), hardlink('b', 'c')],
  'a hard link to itself': [file('a', '1'), hardlink('a', 'a')],
  'a loop of links': [symlink('a', 'b'), symlink('b', 'a'), file('a/x', '1')],
  'a file as parent': [file('a', '1'), file('a/b', '2')],
  'a whiteout without a name': [file('d/.wh.', '')],
  'a whiteout of the directory': [file('d/.wh..', '')],
  'a whiteout of the parent': [file('d/.wh...', '')],
  'an unknown type': [{ name: 'a', type: 'Z' }],
  'a contiguous file': [{ name: 'a', type: '7', data: '1' }],
  'an old GNU sparse file': [
    { name: 'a', type: 'S', data: '1', format: 'gnu', raw: [[483, '00000000001\0']] },
  ],
  'a wrong checksum': [Buffer.concat([entry(file('a', '1'))]).fill('7', 148, 154)],
  'a negative size': [file('a', '1', { size: base256(-5n, 12) })],
  'a size beyond 64 bits': [file('a', '1', { size: Buffer.alloc(12, 0xbf) })],
  'a malformed number': [file('a', '1', { raw: [[108, '12x4567\0']] })],
  'a record without length': [entry({ name: 'p', type: 'x', data: 'path=a\n' }), file('b', '1')],
  'a record that is too long': [entry({ name: 'p', type: 'x', data: '99 path=a\n' }), file('b', '1')],
  'a record without key': [entry({ name: 'p', type: 'x', data: '5 =a\n' }), file('b', '1')],
  'a NUL in a path': [file('b', '1', { pax: { path: 'a\0b' } })],
  'a malformed time': [file('b', '1', { pax: { mtime: '1e9' } })],
  'a malformed owner': [file('b', '1', { pax: { uid: '99999999999999999999' } })],
  'a huge extended header': [
    entry({ name: 'p', type: 'x', data: paxRecord('comment', 'x'.repeat(1 << 20)) }),
    file('b', '1'),
  ],
  'a huge long name': [gnuLong('L', 'x'.repeat(1 << 20)), file('b', '1')],
  'a name longer than the system allows': [gnuLong('L', `${'a/'.repeat(3_000)}b`), file('b', '1')],
  'a part longer than the system allows': [gnuLong('L', 'a'.repeat(300)), file('b', '1')],
  'a sparse map out of order': [
    file('b', 'aaaabbbb', {
      pax: {
        'GNU.sparse.major': '0',
        'GNU.sparse.minor': '1',
        'GNU.sparse.size': '100',
        'GNU.sparse.numblocks': '2',
        'GNU.sparse.map': '50,4,0,4',
      },
    }),
  ],
  'a sparse map that names too little': [
    file('b', 'aaaabbbb', {
      pax: {
        'GNU.sparse.major': '0',
        'GNU.sparse.minor': '1',
        'GNU.sparse.size': '100',
        'GNU.sparse.numblocks': '1',
        'GNU.sparse.map': '0,4',
      },
    }),
  ],
  'a sparse claim beyond 64 bits': [
    file('b', '', {
      pax: {
        'GNU.sparse.major': '0',
        'GNU.sparse.minor': '1',
        'GNU.sparse.size': `${INT64_MAX}0`,
        'GNU.sparse.numblocks': '0',
      },
    }),
  ],
  'a sparse directory': [
    dir('d/', { pax: { 'GNU.sparse.major': '0', 'GNU.sparse.minor': '1', 'GNU.sparse.numblocks': '0' } }),
  ],
  'an endless sparse map': [
    file('b', '9'.repeat(600), { pax: { 'GNU.sparse.major': '1', 'GNU.sparse.minor': '0' } }),
  ],
  'a lone block of zeros': [file('a', '1'), Buffer.alloc(512), file('b', '2')],
  'an empty attribute name': [file('a', '1', { pax: { 'SCHILY.xattr.': '1' } })],
};

/** Layers that containerd unpacks. */
export function ordinaryLayers(): CorpusLayer[] {
  const special: Record<string, Buffer> = {
    'no end marker': entry(file('a', '1')),
    'one entry without padding': entry(file('a', 'abc')).subarray(0, 515),
    'empty tar': Buffer.alloc(0),
    'bytes after the end': Buffer.concat([archive(file('a', '1')), Buffer.from('anything')]),
  };
  return Object.entries(ordinary).map(([name, entries]) => ({
    name,
    tar: special[name] ?? archive(...entries),
  }));
}

/** Layers that containerd refuses. */
export function refusedLayers(): CorpusLayer[] {
  const cut = archive(file('a', 'x'.repeat(2_000))).subarray(0, 1_500);
  const layers = Object.entries(refused).map(([name, entries]) => ({ name, tar: archive(...entries) }));
  return [...layers, { name: 'a cut body', tar: cut }, { name: 'a cut header', tar: cut.subarray(0, 300) }];
}
