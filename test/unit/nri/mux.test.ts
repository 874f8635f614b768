import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { encodeMux, MUX_PAYLOAD_BYTES_MAX, MuxDecoder } from '../../../nri/mux.ts';
import { isShoalError } from '../../../shim/base/errors.ts';

/** The lengths of the frames in what was encoded. */
function lengthsOf(wire: Buffer): number[] {
  const lengths: number[] = [];
  for (let offset = 0; offset < wire.length; offset += 8 + (lengths.at(-1) ?? 0))
    lengths.push(wire.readUInt32BE(offset + 4));
  return lengths;
}

test('encodeMux() cuts a message into frames of 4096 bytes at most', () => {
  assert.is(encodeMux(2, Buffer.from('ab')).toString('hex'), '00000002000000026162');
  assert.equal(lengthsOf(encodeMux(1, Buffer.alloc(4096))), [4096]);
  assert.equal(lengthsOf(encodeMux(1, Buffer.alloc(20_000))), [4096, 4096, 4096, 4096, 3616]);
});

test('encodeMux() sends more than the reader queues as a first piece and the rest', () => {
  assert.is(lengthsOf(encodeMux(1, Buffer.alloc(1 << 20))).length, 256);
  assert.equal(lengthsOf(encodeMux(1, Buffer.alloc((1 << 20) + 1))), [
    MUX_PAYLOAD_BYTES_MAX,
    (1 << 20) + 1 - MUX_PAYLOAD_BYTES_MAX,
  ]);
});

for (const size of [1, 7, 8, 9, 5000, 1_000_000]) {
  test(`MuxDecoder keeps two streams apart in pieces of ${size} bytes`, () => {
    const [one, two] = [Buffer.alloc(10_000, 1), Buffer.alloc(3, 2)];
    const wire = Buffer.concat([encodeMux(1, one), encodeMux(2, two), encodeMux(7, two), encodeMux(1, two)]);
    const streams = new Map<number, Buffer[]>();
    const decoder = new MuxDecoder();
    for (let offset = 0; offset < wire.length; offset += size)
      decoder.feed(wire.subarray(offset, offset + size), (id, part) =>
        streams.set(id, [...(streams.get(id) ?? []), part]),
      );
    const whole = (id: number): Buffer => Buffer.concat(streams.get(id) ?? []);
    assert.ok(whole(1).equals(Buffer.concat([one, two])));
    assert.ok(whole(2).equals(two));
    assert.ok(whole(7).equals(two));
  });
}

test('MuxDecoder refuses a frame that is longer than any runtime sends', () => {
  const header = Buffer.from('0000000101000001', 'hex');
  assert.throws(
    () => new MuxDecoder().feed(header, () => undefined),
    (error: unknown) => isShoalError(error, 'PEER_PROTOCOL'),
  );
  new MuxDecoder().feed(Buffer.from('0000000101000000', 'hex'), () => undefined);
});

test.run();
