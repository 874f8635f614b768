// Feeds damaged tars and damaged compressed streams to the unpacker. Whatever they hold, it either unpacks or gives one of
// its own errors, and nothing outside the target changes. A failure prints the seed that repeats it:
//   FUZZ_SEED=n FUZZ_SECONDS=n node test/fuzz/unpack.test.ts
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import * as zlib from 'node:zlib';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { digestOf } from '../../shim/base/digest.ts';
import { isShoalError } from '../../shim/base/errors.ts';
import { JobControl } from '../../shim/unpack/control.ts';
import { createGzipInflater, createZstdInflater, type Inflater } from '../../shim/unpack/inflate.ts';
import { IsalCodec } from '../../shim/unpack/isal-codec.ts';
import { NodeCodec } from '../../shim/unpack/node-codec.ts';
import { unpackLayer } from '../../shim/unpack/unpack-layer.ts';
import { damage, pick, type Random, repeat } from '../support/fuzz.ts';
import { isalLibrary } from '../support/real/components.ts';
import { ordinaryLayers, refusedLayers } from '../unit/unpack/layer-corpus.ts';
import { archive, type EntryFields } from '../unit/unpack/tar-builder.ts';

/** A hostile layer may claim this much; what it makes stays below. */
const UNPACKED_BYTES_MAX = 4_000_000;
/** Beside the output of an inflater. */
const GUARD = 0xa5;
const test = suite('unpack fuzz');
const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'shoal-fuzz-'));
const outside = path.join(directory, 'outside');
const root = path.join(directory, 'root');
const corpus = [...ordinaryLayers(), ...refusedLayers()]
  .map(({ tar }) => tar)
  .filter((tar) => tar.length < 100_000);
test.after(() => removeTree(directory));

/** Without root, directories that a layer closed to their owner have to be opened first. */
function removeTree(tree: string): void {
  if (process.getuid?.() !== 0) spawnSync('chmod', ['-R', 'u+rwx', tree]);
  fs.rmSync(tree, { recursive: true, force: true });
}

/** Names that meet each other, and the outside, through links. */
function randomEntry(random: Random): EntryFields {
  const parts = ['a', 'b', 'c', '..', '.', '', '.wh.a', '.wh.b', '.wh..wh..opq', '.wh.', '.wh...'];
  const name = (): string => Array.from({ length: 1 + random(4) }, () => pick(parts, random)).join('/');
  const target = (): string =>
    pick([name(), `/${name()}`, `../../${name()}`, outside, `${outside}/new`], random);
  const type = pick(['0', '0', '0', '5', '5', '2', '2', '1', '6', 'g', '3'], random);
  const isFile = type === '0';
  return {
    name: name(),
    type,
    linkName: target(),
    mode: random(0o10000),
    ...(isFile ? { data: 'x'.repeat(random(600)) } : {}),
  };
}

function randomTar(random: Random): Buffer {
  if (random(2) === 0) return archive(...Array.from({ length: 1 + random(12) }, () => randomEntry(random)));
  return damageTar(pick(corpus, random), random);
}

/** Damaged, and the checksum of a header made right again half of the time. */
function damageTar(tar: Buffer, random: Random): Buffer {
  const result = damage(tar, random);
  if (random(2) === 0)
    for (let at = 0; at < result.length; at += 512) if (random(4) === 0) mendChecksum(result, at);
  return result;
}

function mendChecksum(tar: Buffer, at: number): void {
  if (at + 512 > tar.length) return;
  const block = tar.subarray(at, at + 512);
  block.fill(' ', 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
}

async function unpackOne(tar: Buffer, mode: 'overlay' | 'merge'): Promise<void> {
  fs.mkdirSync(root, { mode: 0o700 });
  const sourcePath = path.join(directory, 'layer');
  fs.writeFileSync(sourcePath, tar);
  const control = new JobControl();
  control.advance(tar.length);
  const digest = digestOf(tar);
  const what = { sourcePath, sizeBytes: tar.length, digest, diffId: digest, compression: 'none' } as const;
  const limits = { privileged: process.getuid?.() === 0, unpackedBytesMax: UNPACKED_BYTES_MAX };
  try {
    await unpackLayer({ ...what, ...limits, mode, targetDirectory: root }, control);
  } catch (error) {
    const isOurs = isShoalError(error, 'UNPACK_INVALID', 'UNPACK_UNSAFE', 'UNPACK_FAILED', 'LIMIT_EXCEEDED');
    assert.ok(isOurs, error instanceof Error ? error.stack : String(error));
  } finally {
    fs.chmodSync(root, 0o700);
    removeTree(root);
  }
}

/** The one place beside the target that links name. */
function outsideState(): string {
  const stat = fs.statSync(outside, { bigint: true });
  return [
    fs.readdirSync(directory).sort(),
    fs.readdirSync(outside),
    stat.mode,
    stat.uid,
    stat.mtimeNs,
    stat.nlink,
  ].join(' ');
}

test('hostile and damaged tars never write outside the target', async () => {
  fs.mkdirSync(outside);
  fs.writeFileSync(path.join(outside, 'kept'), 'kept');
  fs.writeFileSync(path.join(directory, 'layer'), '');
  const before = outsideState();
  await repeat(async (random) => {
    await unpackOne(randomTar(random), random(2) === 0 ? 'overlay' : 'merge');
    assert.is(outsideState(), before);
    assert.is(fs.readFileSync(path.join(outside, 'kept'), 'utf8'), 'kept');
  }, 0.5);
});

test('damaged gzip and zstd streams give our errors, and no more bytes than were asked for', async () => {
  const plain = Buffer.concat(corpus.slice(0, 8));
  const streams: [Buffer, () => Inflater][] = [
    ...gzipInflaters().flatMap((create): [Buffer, () => Inflater][] => [
      [zlib.gzipSync(plain), create],
      [Buffer.concat([zlib.gzipSync(plain), zlib.gzipSync(plain)]), create],
    ]),
    [zlib.zstdCompressSync(plain), () => createZstdInflater()],
    [
      Buffer.concat([zlib.zstdCompressSync(plain), zlib.zstdCompressSync(plain)]),
      () => createZstdInflater('node'),
    ],
  ];
  const around = Buffer.alloc(3_000, GUARD);
  await repeat((random) => {
    const [stream, create] = pick(streams, random);
    const inflater = create();
    const output = around.subarray(1_000, 1_000 + 1 + random(1_000));
    try {
      inflateAll(inflater, damage(stream, random), output, random);
    } catch (error) {
      assert.ok(isShoalError(error, 'UNPACK_INVALID'), error instanceof Error ? error.stack : String(error));
    } finally {
      inflater.close();
    }
    assertGuarded(around, output);
  }, 0.5);
});

/** With ISA-L as well, where it is here. */
function gzipInflaters(): (() => Inflater)[] {
  const library = isalLibrary();
  const withNode = (): Inflater => createGzipInflater(new NodeCodec('deflate'));
  if (library === undefined) return [withNode];
  return [withNode, () => createGzipInflater(new IsalCodec(library))];
}

/** Native code writes into what it was given, and nowhere else. */
function assertGuarded(around: Buffer, output: Buffer): void {
  const rest = Buffer.concat([around.subarray(0, 1_000), around.subarray(1_000 + output.length)]);
  assert.ok(
    rest.every((byte) => byte === GUARD),
    'bytes beside the output were written',
  );
  output.fill(GUARD);
}

function inflateAll(inflater: Inflater, stream: Buffer, output: Buffer, random: Random): void {
  let steps = 0;
  for (let at = 0; at < stream.length; ) {
    let rest = stream.subarray(at, at + 1 + random(5_000));
    at += rest.length;
    for (let isFull = true; rest.length > 0 || isFull; steps++) {
      const step = inflater.step(rest, output);
      assert.ok(step.consumedBytes <= rest.length && step.producedBytes <= output.length);
      rest = rest.subarray(step.consumedBytes);
      isFull = step.producedBytes === output.length;
      assert.ok(steps < 1_000_000, 'it makes no progress');
    }
  }
  inflater.finish();
}

test.run();
