import { randomBytes } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { digestOf } from '../../../shim/base/digest.ts';
import { isShoalError } from '../../../shim/base/errors.ts';
import { FRAME_HEAD_BYTES, FrameType } from '../../../shim/peer/frame.ts';
import {
  encodeRightMessage,
  parseRightMessage,
  type RightMessage,
} from '../../../shim/peer/right-messages.ts';

const key = { host: 'registry.test:5000', digest: digestOf('layer') };
const bytes = (count: number): Uint8Array => Uint8Array.from(randomBytes(count));
const messages: readonly RightMessage[] = [
  { kind: 'prove', key, proofs: [bytes(32), bytes(32)] },
  { kind: 'challenge', key, nonce: bytes(16), pieces: [0, 7, 0xffffffff] },
  { kind: 'answer', key, nonce: bytes(16), proof: bytes(32) },
];

for (const message of messages) {
  const frame = encodeRightMessage(message);
  const type = frame.readUInt8(4);
  const payload = frame.subarray(FRAME_HEAD_BYTES);

  test(`a ${message.kind} message comes back as it was`, () => {
    assert.is(frame.readUInt32BE(0), payload.length);
    assert.equal(parseRightMessage(type, payload), message);
  });

  test(`a ${message.kind} message that is cut or too long is refused`, () => {
    for (let length = 0; length < payload.length; length++)
      assert.throws(() => parseRightMessage(type, payload.subarray(0, length)), isShoalError);
    assert.throws(() => parseRightMessage(type, Buffer.concat([payload, Buffer.from('x')])), isShoalError);
  });
}

test('lists of none or too many are refused', () => {
  const head = encodeRightMessage({ kind: 'prove', key, proofs: [] }).subarray(FRAME_HEAD_BYTES, -1);
  for (const count of [0, 5, 255])
    assert.throws(
      () =>
        parseRightMessage(
          FrameType.prove,
          Buffer.concat([head, Buffer.from([count]), Buffer.alloc(32 * count)]),
        ),
      /1 to 4 wanted/,
    );
});

test.run();
