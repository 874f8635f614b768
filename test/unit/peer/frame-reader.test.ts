import { randomBytes } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ErrorCode, isShoalError } from '../../../shim/base/errors.ts';
import {
  agreeOnVersion,
  CONTROL_BYTES_MAX,
  encodeChunkHead,
  encodeHello,
  FrameType,
  type Hello,
  parseHello,
} from '../../../shim/peer/frame.ts';
import { type FrameHandler, FrameReader } from '../../../shim/peer/frame-reader.ts';
import { encodeMessage } from '../../../shim/peer/message-codec.ts';
import { CHUNK_SIZE_BYTES } from '../../../shim/swarm/limits.ts';

const hello: Hello = {
  versionMin: 1,
  versionMax: 1,
  self: '10.0.0.1:65002',
  zone: 'a',
  nodeName: 'node-1',
  nonce: new Uint8Array(16),
  role: 1,
};

/** Collects what a reader gives, chunks with odd ids only. */
class Collector implements FrameHandler {
  readonly seen: string[] = [];

  onControl(type: number, payload: Buffer): void {
    this.seen.push(`control ${type} ${payload.toString('hex')}`);
  }

  onChunk(requestId: number, chunk: number, lengthBytes: number) {
    this.seen.push(`chunk ${requestId} ${chunk} ${lengthBytes}`);
    if (requestId % 2 === 0) return undefined;
    const buffer = Buffer.alloc(lengthBytes);
    let filled = 0;
    return {
      buffer,
      filled: (count: number) => {
        filled += count;
      },
      done: () => this.seen.push(`done ${filled} ${buffer.toString('hex')}`),
      broken: () => this.seen.push('broken'),
    };
  }
}

function sampleStream(): Buffer {
  const wanted = randomBytes(40);
  return Buffer.concat([
    encodeHello(hello),
    encodeMessage({ kind: 'cancel', requestId: 9 }),
    encodeChunkHead(1, 4, wanted.length),
    wanted,
    encodeChunkHead(2, 5, 30),
    randomBytes(30),
    encodeMessage({ kind: 'gone', requestId: 3 }),
  ]);
}

function read(pieces: readonly Buffer[]): string[] {
  const collector = new Collector();
  const reader = new FrameReader(collector);
  for (const piece of pieces) reader.feed(piece);
  return collector.seen;
}

function refused(bytes: Buffer): boolean {
  try {
    read([bytes]);
    return false;
  } catch (error) {
    if (!isShoalError(error, ErrorCode.PeerProtocol)) throw error;
    return true;
  }
}

test('feed() gives the same frames for every way to cut the stream in two, and byte by byte', () => {
  const stream = sampleStream();
  const whole = read([stream]);
  assert.is(whole.length, 6);
  for (let at = 0; at <= stream.length; at++)
    assert.equal(read([stream.subarray(0, at), stream.subarray(at)]), whole);
  assert.equal(read([...stream].map((byte) => Buffer.from([byte]))), whole);
});

test('feed() takes bytes of a chunk where nextBuffer() had them put, without copying', () => {
  const collector = new Collector();
  const reader = new FrameReader(collector);
  const stream = sampleStream();
  let offset = 0;
  for (let turn = 0; offset < stream.length; turn++) {
    const buffer = reader.nextBuffer();
    const count = Math.min(buffer.length, stream.length - offset, 1 + (turn % 17));
    stream.copy(buffer, 0, offset, offset + count);
    reader.feed(buffer.subarray(0, count));
    offset += count;
  }
  assert.equal(collector.seen, read([stream]));
});

test('feed() refuses frames that are longer than their kind may be, before their bytes come', () => {
  const head = (length: number, type: number) => {
    const bytes = Buffer.alloc(5);
    bytes.writeUInt32BE(length, 0);
    bytes.writeUInt8(type, 4);
    return bytes;
  };
  const greeted = (bytes: Buffer) => Buffer.concat([encodeHello(hello), bytes]);
  assert.ok(refused(head(3000, FrameType.hello)));
  assert.ok(refused(head(10, FrameType.have)), 'nothing comes before hello');
  assert.ok(refused(greeted(head(CONTROL_BYTES_MAX + 1, FrameType.have))));
  assert.not(refused(greeted(head(CONTROL_BYTES_MAX, FrameType.have))));
  assert.ok(refused(greeted(head(CHUNK_SIZE_BYTES + 9, FrameType.chunk))));
  assert.ok(refused(greeted(head(8, FrameType.chunk))), 'an empty chunk');
  assert.not(refused(greeted(head(CHUNK_SIZE_BYTES + 8, FrameType.chunk))));
});

test('feed() takes garbage without anything but PeerProtocol', () => {
  for (let round = 0; round < 3000; round++)
    refused(Buffer.concat([round % 2 ? encodeHello(hello) : Buffer.alloc(0), randomBytes(round % 100)]));
});

test('parseHello() gives back a hello, also one with more in it, and knows strangers', () => {
  const payload = encodeHello({ ...hello, nonce: Uint8Array.from({ length: 16 }, (_, at) => at) }).subarray(
    5,
  );
  assert.equal(parseHello(Buffer.concat([payload, Buffer.from('later')])), {
    ...hello,
    nonce: Uint8Array.from({ length: 16 }, (_, at) => at),
  });
  assert.throws(() => parseHello(Buffer.from('GET / HTTP/1.1\r\n')), /does not speak/);
});

test('agreeOnVersion() takes the highest version of both and refuses when there is none', () => {
  assert.is(agreeOnVersion({ ...hello, versionMax: 9 }), 1);
  assert.throws(() => agreeOnVersion({ ...hello, versionMin: 2, versionMax: 9 }), /versions 2 to 9/);
});

test.run();
