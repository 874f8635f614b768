import { crc32, deflateRawSync, gzipSync } from 'node:zlib';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ErrorCode, isShoalError } from '../../../shim/base/errors.ts';
import { createGzipInflater } from '../../../shim/unpack/inflate.ts';

const TEXT = Buffer.from('one layer, then another, '.repeat(400));

test('createGzipInflater() reads a stream whatever pieces it comes in', async () => {
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
          await inflate(file, { pieceBytes, outputBytes, inPool }),
          wanted,
          `${pieceBytes}/${outputBytes}`,
        );
});

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
    for (const pieceBytes of [1, 5000])
      for (const inPool of [false, true])
        try {
          await inflate(damaged, { pieceBytes, outputBytes: 4096, inPool });
          assert.unreachable('it was taken');
        } catch (error) {
          assert.ok(isShoalError(error, ErrorCode.UnpackInvalid), String(error));
        }
  });

test.run();

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

async function inflate(file: Buffer, { pieceBytes, outputBytes, inPool }: Way): Promise<Buffer> {
  const inflater = createGzipInflater();
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
