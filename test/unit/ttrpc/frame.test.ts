import {
  DATA_BYTES_MAX,
  type DecodedFrame,
  encodeFrame,
  Flag,
  FrameDecoder,
  FrameType,
  HEADER_BYTES,
} from 'ttrpc';
import { test } from 'uvu';
import * as assert from 'uvu/assert';

test('encodeFrame() writes length, stream id, type and flags in front of the data', () => {
  const bytes = encodeFrame({
    streamId: 0x01020304,
    type: FrameType.Data,
    flags: 5,
    data: Buffer.from('abc'),
  });
  assert.is(bytes.toString('hex'), `00000003${'01020304'}0305616263`);
});

test('encodeFrame() refuses data above 4 MiB and takes exactly that', () => {
  const frame = { streamId: 1, type: FrameType.Request, flags: 0 };
  assert.is(
    encodeFrame({ ...frame, data: Buffer.alloc(DATA_BYTES_MAX) }).length,
    DATA_BYTES_MAX + HEADER_BYTES,
  );
  assert.throws(
    () => encodeFrame({ ...frame, data: Buffer.alloc(DATA_BYTES_MAX + 1) }),
    (error: { code?: number }) => error.code === 8,
  );
});

const frames: DecodedFrame[] = [
  { streamId: 1, type: FrameType.Request, flags: 0, data: Buffer.from('first') },
  { streamId: 3, type: FrameType.Data, flags: Flag.RemoteClosed | Flag.NoData, data: Buffer.alloc(0) },
  { streamId: 0xffff_ffff, type: 200, flags: 255, data: Buffer.alloc(70_000, 7) },
  { streamId: 5, type: FrameType.Response, flags: 0, data: Buffer.alloc(0) },
];
const bytes = Buffer.concat(frames.map(encodeFrame));

for (const size of [1, 3, 9, 10, 11, 4096, bytes.length]) {
  test(`FrameDecoder gives the same frames from pieces of ${size} bytes`, () => {
    const decoder = new FrameDecoder();
    const found: DecodedFrame[] = [];
    for (let offset = 0; offset < bytes.length; offset += size) {
      // A copy that is overwritten afterwards: what is kept must not depend on the caller's buffer when it is cut.
      decoder.feed(Buffer.from(bytes.subarray(offset, offset + size)));
      found.push(...decoder.collect());
    }
    assert.equal(found, frames);
  });
}

test('FrameDecoder tells a frame that is too long at its header, skips its data and goes on', () => {
  const decoder = new FrameDecoder();
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt32BE(DATA_BYTES_MAX + 1, 0);
  header.writeUInt32BE(7, 4);
  header[8] = FrameType.Request;
  decoder.feed(header);
  const [told] = decoder.collect();
  assert.is(told?.streamId, 7);
  assert.is(told?.discardedBytes, DATA_BYTES_MAX + 1);
  decoder.feed(Buffer.alloc(DATA_BYTES_MAX, 1));
  assert.equal(decoder.collect(), []);
  const next = encodeFrame({ streamId: 9, type: FrameType.Request, flags: 0, data: Buffer.from('x') });
  decoder.feed(Buffer.concat([Buffer.alloc(1, 1), next]));
  const [after] = decoder.collect();
  assert.is(after?.streamId, 9);
  assert.is(after?.data.toString(), 'x');
});

test.run();
