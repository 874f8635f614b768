import { crc32, deflateRawSync, gzipSync } from 'node:zlib';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ErrorCode, isShoalError } from '../../../shim/base/errors.ts';
import { Prng } from '../../../shim/swarm/prng.ts';
import { createGzipInflater } from '../../../shim/unpack/inflate.ts';
import { hasIsal, IsalCodec } from '../../../shim/unpack/isal-codec.ts';
import { type DeflateCodec, NodeCodec } from '../../../shim/unpack/node-codec.ts';
import { isalLibrary } from '../../support/real/components.ts';

const TEXT = Buffer.from('one layer, then another, '.repeat(400));

const library = isalLibrary();
const codecs: [name: string, create: () => DeflateCodec][] = [
  ['node:zlib', () => new NodeCodec('deflate')],
  ...(library === undefined ? [] : [['ISA-L', () => new IsalCodec(library)] as [string, () => DeflateCodec]]),
];
if (library === undefined) console.log('SKIP ISA-L: it is not here, hack/components/isal.sh brings it');

test('hasIsal() tells of a library that is not there, and of one that is none', () => {
  assert.not(hasIsal('libshoal-has-no-such-library.so.2'));
  assert.not(hasIsal('libc.so.6'));
  assert.throws(() => new IsalCodec('libc.so.6'), /there is no libc/);
});

for (const [name, create] of codecs)
  test(`createGzipInflater() reads a stream whatever pieces it comes in, with ${name}`, async () => {
    const file = Buffer.concat([
      gzipSync(TEXT),
      member(TEXT.subarray(0, 100), ALL_FIELDS),
      gzipSync(''),
      Buffer.alloc(9),
    ]);
    const wanted = Buffer.concat([TEXT, TEXT.subarray(0, 100)]);
    for (const pieceBytes of [1, 2, 7, 64, file.length])
      for (const outputBytes of [1, 10, wanted.length, wanted.length + 1])
        for (const inPool of pieceBytes < 7 || outputBytes < 10 ? [false] : [false, true])
          assert.equal(
            await inflate(create(), file, { pieceBytes, outputBytes, inPool }),
            wanted,
            `${pieceBytes}/${outputBytes}`,
          );
  });

for (const [name, create] of codecs)
  for (const level of [0, 1, 6, 9])
    test(`createGzipInflater() gives what was deflated at level ${level}, with ${name}`, async () => {
      const content = mixedContent();
      const file = gzipSync(content, { level });
      const big = 300_000;
      for (const [pieceBytes, outputBytes] of [
        [file.length, content.length + 1],
        [10_007, 70_001],
        [big, 131_072],
      ] as const)
        for (const inPool of [false, true])
          assert.ok(
            content.equals(await inflate(create(), file, { pieceBytes, outputBytes, inPool })),
            `${pieceBytes}/${outputBytes}`,
          );
    });

const WAYS = [
  [1, false],
  [1, true],
  [5000, false],
  [5000, true],
] as const;

for (const [what, damaged] of Object.entries({
  'a file that ends in a header': gzipSync(TEXT).subarray(0, 7),
  'a file that ends in the data': gzipSync(TEXT).subarray(0, -9),
  'a file that ends in a trailer': gzipSync(TEXT).subarray(0, -1),
  'a member of another length than it says': Buffer.concat([
    gzipSync(TEXT).subarray(0, -4),
    Buffer.from([1, 0, 0, 0]),
  ]),
  'bytes behind the last member': Buffer.concat([gzipSync(TEXT), Buffer.from('more')]),
  'bytes behind zeros': Buffer.concat([gzipSync(TEXT), Buffer.alloc(3), gzipSync(TEXT)]),
  'another compression method': Buffer.concat([Buffer.from([0x1f, 0x8b, 7]), gzipSync(TEXT).subarray(3)]),
  'a name without end': Buffer.concat([
    Buffer.from([0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3]),
    Buffer.alloc(200_000, 'n'),
  ]),
  'damaged data': Buffer.concat([
    gzipSync(TEXT).subarray(0, 12),
    Buffer.alloc(20, 0xff),
    gzipSync(TEXT).subarray(32),
  ]),
}))
  test(`createGzipInflater() refuses ${what}`, async () => {
    for (const [name, create] of codecs)
      for (const [pieceBytes, inPool] of WAYS)
        try {
          await inflate(create(), damaged, { pieceBytes, outputBytes: 4096, inPool });
          assert.unreachable(`it was taken by ${name}`);
        } catch (error) {
          assert.ok(isShoalError(error, ErrorCode.UnpackInvalid), String(error));
        }
  });

test.run();

/** What repeats within 32 KiB, what does not, what is all the same: more than a window of each. */
function mixedContent(): Buffer {
  const prng = new Prng(7);
  const random = Buffer.from(Array.from({ length: 150_000 }, () => prng.below(256)));
  const words = Array.from({ length: 40_000 }, () => ['layer', 'blob', 'digest', '\n'][prng.below(4)]).join(
    ' ',
  );
  return Buffer.concat([Buffer.from(words), random, Buffer.alloc(400_000, 7), Buffer.from(words)]);
}

const ALL_FIELDS = 2 + 4 + 8 + 16;

/** With every field that a header may have (RFC 1952, 2.3). */
function member(data: Buffer, flags: number): Buffer {
  const trailer = Buffer.alloc(8);
  trailer.writeUInt32LE(crc32(data), 0);
  trailer.writeUInt32LE(data.length, 4);
  const extra = Buffer.concat([Buffer.from([0x2c, 1]), Buffer.alloc(300, 7)]);
  const header = [
    Buffer.from([0x1f, 0x8b, 8, flags, 1, 2, 3, 4, 0, 3]),
    extra,
    Buffer.from('name\0comment\0'),
    Buffer.alloc(2),
  ];
  return Buffer.concat([...header, deflateRawSync(data), trailer]);
}

interface Way {
  readonly pieceBytes: number;
  readonly outputBytes: number;
  readonly inPool: boolean;
}

async function inflate(
  codec: DeflateCodec,
  file: Buffer,
  { pieceBytes, outputBytes, inPool }: Way,
): Promise<Buffer> {
  const inflater = createGzipInflater(codec);
  const output = Buffer.alloc(outputBytes);
  const parts: Buffer[] = [];
  try {
    for (let at = 0; at < file.length; at += pieceBytes) {
      let rest = file.subarray(at, at + pieceBytes);
      for (let isFull = true; rest.length > 0 || isFull; ) {
        const step = inPool ? await inflater.stepInPool(rest, output) : inflater.step(rest, output);
        parts.push(Buffer.from(output.subarray(0, step.producedBytes)));
        rest = rest.subarray(step.consumedBytes);
        isFull = step.producedBytes === output.length;
      }
    }
    inflater.finish();
    return Buffer.concat(parts);
  } finally {
    inflater.close();
  }
}
