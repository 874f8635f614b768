import { randomBytes } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { digestOf } from '../../../shim/base/digest.ts';
import { ErrorCode, isShoalError } from '../../../shim/base/errors.ts';
import { FRAME_HEAD_BYTES, FrameType } from '../../../shim/peer/frame.ts';
import { encodeMessage, parseMessage } from '../../../shim/peer/message-codec.ts';
import type { PeerMessage } from '../../../shim/swarm/messages.ts';

const key = { host: 'registry.test:5000', digest: digestOf('layer') };
const hash = () => Uint8Array.from(randomBytes(32));
const runs = [
  { firstChunk: 0, hashes: [hash(), hash()] },
  { firstChunk: 77, hashes: [hash()] },
];
const held = Uint8Array.from([0xff, 0x03]);

const SAMPLES: readonly PeerMessage[] = [
  {
    kind: 'announce',
    key,
    sizeBytes: 2 ** 40,
    chunksHeld: 12,
    complete: false,
    leasesWanted: 4,
    missing: [{ firstChunk: 3, chunkCount: 9 }],
    held,
    leased: [{ firstChunk: 1, chunkCount: 2 }],
    ttlMs: 12_000,
    zone: 'zone-a',
  },
  {
    kind: 'directory',
    key,
    holders: [
      { peer: '10.0.0.1:65002', zone: 'a', complete: true },
      { peer: '[fd00::1]:65002', zone: '', complete: false },
    ],
    leases: [{ firstChunk: 8, chunkCount: 4, ttlMs: 5000 }],
    imports: [{ firstChunk: 9, chunkCount: 1, ttlMs: 2_000 }],
    hashes: runs,
  },
  { kind: 'publish', key, hashes: { firstChunk: 5, hashes: [hash()] } },
  { kind: 'returnLease', key, run: { firstChunk: 4, chunkCount: 4 }, retryAfterMs: 100 },
  { kind: 'depart', key },
  { kind: 'follow', key, sizeBytes: 123 },
  { kind: 'refuse', key, retryAfterMs: 1000 },
  { kind: 'bitmap', key, held, hashes: runs },
  { kind: 'have', key, hashes: runs },
  { kind: 'unfollow', key },
  { kind: 'request', requestId: 2 ** 32 - 1, key, chunk: 524_287 },
  { kind: 'cancel', requestId: 7 },
  { kind: 'busy', requestId: 7, retryAfterMs: 120 },
  { kind: 'gone', requestId: 7 },
  { kind: 'askBudget', host: key.host, number: 3, bytes: 2 ** 40, requests: 16, isMoving: true },
  { kind: 'grantBudget', host: key.host, number: 3, bytes: 0, requests: 0, retryAfterMs: 3000 },
];

function parse(frame: Buffer): PeerMessage {
  return parseMessage(frame.readUInt8(4), frame.subarray(FRAME_HEAD_BYTES));
}

/** The message, or undefined when the bytes were refused as the sender's fault. */
function tryParse(type: number, payload: Buffer): PeerMessage | undefined {
  try {
    return parseMessage(type, payload);
  } catch (error) {
    if (!isShoalError(error, ErrorCode.PeerProtocol)) throw error;
    return undefined;
  }
}

for (const message of SAMPLES) {
  test(`parseMessage() gives back "${message.kind}" and refuses it when it ends early or late`, () => {
    const frame = encodeMessage(message);
    assert.is(frame.readUInt32BE(0), frame.length - FRAME_HEAD_BYTES);
    assert.equal(parse(frame), message);
    const payload = frame.subarray(FRAME_HEAD_BYTES);
    for (let length = 0; length < payload.length; length++)
      assert.is(tryParse(frame.readUInt8(4), payload.subarray(0, length)), undefined);
    assert.is(tryParse(frame.readUInt8(4), Buffer.concat([payload, Buffer.from([0])])), undefined);
  });
}

test('parseMessage() takes any bytes of any type without anything but PeerProtocol', () => {
  const types = [...Object.values(FrameType), 0, 99, 255];
  for (let round = 0; round < 20_000; round++)
    tryParse(types[round % types.length] ?? 0, randomBytes(round % 300));
});

test('parseMessage() takes samples with any byte changed', () => {
  for (const message of SAMPLES) {
    const frame = encodeMessage(message);
    for (let at = FRAME_HEAD_BYTES; at < frame.length; at++)
      for (const value of [0, 1, 0x7f, 0xff]) {
        const payload = Buffer.from(frame.subarray(FRAME_HEAD_BYTES));
        payload[at - FRAME_HEAD_BYTES] = value;
        tryParse(frame.readUInt8(4), payload);
      }
  }
});

test('parseMessage() makes no list longer than the payload that claims it', () => {
  const payload = encodeMessage({ kind: 'have', key, hashes: [] }).subarray(FRAME_HEAD_BYTES);
  payload.writeUInt16BE(0xffff, payload.length - 2);
  assert.throws(() => parseMessage(FrameType.have, payload), /hash runs/);
});

test('parseMessage() refuses chunk indexes and sizes above the largest blob', () => {
  const request = encodeMessage({ kind: 'request', requestId: 1, key, chunk: 524_288 });
  assert.throws(() => parse(request), /chunk index/);
  const follow = encodeMessage({ kind: 'follow', key, sizeBytes: 2 ** 40 + 1 });
  assert.throws(() => parse(follow), /blob size/);
});

test.run();
