// Feeds damaged streams to the reader of frames and the parser of messages. Whatever a peer sends, it is understood or is
// that peer's fault, and it does not matter how the network cuts it. A failure prints the seed that repeats it:
//   FUZZ_SEED=n FUZZ_SECONDS=n node test/fuzz/peer-protocol.test.ts
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { digestOf } from '../../shim/base/digest.ts';
import { ErrorCode, isShoalError } from '../../shim/base/errors.ts';
import { encodeChunkHead, encodeHello, FrameType, parseHello } from '../../shim/peer/frame.ts';
import { type FrameHandler, FrameReader } from '../../shim/peer/frame-reader.ts';
import { encodeMessage, parseMessage } from '../../shim/peer/message-codec.ts';
import {
  encodeRightMessage,
  isRightFrame,
  parseRightMessage,
  type RightMessage,
} from '../../shim/peer/right-messages.ts';
import type { ChunkRun, HashRun, PeerMessage } from '../../shim/swarm/messages.ts';
import { damage, expectOurs, pick, type Random, repeat } from '../support/fuzz.ts';

const test = suite('peer protocol fuzz');
const U32 = 2 ** 32;
const CHUNK_INDEX_MAX = 524_287;
const REFUSED = 'refused:';

/** Any message that a peer may send; lists are short, for damage makes them long. */
function randomMessage(random: Random): PeerMessage {
  const key = {
    host: pick(['a', 'registry.test:5000', 'ü'.repeat(60)], random),
    digest: digestOf(`${random(9)}`),
  };
  const u32 = (): number => pick([0, 1, random(U32), U32 - 1], random);
  const list = <Item>(make: () => Item): Item[] => Array.from({ length: random(4) }, make);
  const bytes = (length: number): Uint8Array => Uint8Array.from({ length }, () => random(256));
  const run = (): ChunkRun => ({ firstChunk: random(1000), chunkCount: 1 + random(1000) });
  const hashRun = (): HashRun => ({
    firstChunk: random(1000),
    hashes: [bytes(32), ...list(() => bytes(32))],
  });
  const flag = random(2) === 0;
  const sizeBytes = pick([0, random(U32), 2 ** 40], random);
  const messages: (() => PeerMessage)[] = [
    () => ({
      ...{
        kind: 'announce',
        key,
        sizeBytes,
        chunksHeld: random(1000),
        complete: flag,
        leasesWanted: random(5),
      },
      ...{ missing: list(run), held: bytes(random(40)), leased: list(run), ttlMs: u32(), zone: 'z' },
    }),
    () => ({
      ...{
        kind: 'directory',
        key,
        holders: list(() => ({ peer: '10.0.0.1:65002', zone: '', complete: flag })),
      },
      ...{ leases: list(() => ({ ...run(), ttlMs: u32() })), hashes: list(hashRun) },
      ...{ imports: list(() => ({ ...run(), ttlMs: u32() })) },
    }),
    () => ({ kind: 'publish', key, hashes: hashRun() }),
    () => ({ kind: 'returnLease', key, run: run(), retryAfterMs: u32() }),
    () => ({ kind: pick(['depart', 'unfollow'] as const, random), key }),
    () => ({ kind: 'follow', key, sizeBytes }),
    () => ({ kind: 'refuse', key, retryAfterMs: u32() }),
    () => ({ kind: 'bitmap', key, held: bytes(random(40)), hashes: list(hashRun) }),
    () => ({ kind: 'have', key, hashes: list(hashRun) }),
    () => ({ kind: 'request', requestId: u32(), key, chunk: random(CHUNK_INDEX_MAX + 1) }),
    () => ({ kind: pick(['cancel', 'gone'] as const, random), requestId: u32() }),
    () => ({ kind: 'busy', requestId: u32(), retryAfterMs: u32() }),
  ];
  return pick(messages, random)();
}

function randomRightMessage(random: Random): RightMessage {
  const key = { host: 'registry.test', digest: digestOf(`${random(9)}`) };
  const nonce = new Uint8Array(16).fill(random(256));
  const proof = new Uint8Array(32).fill(random(256));
  const pieces = Array.from({ length: 1 + random(4) }, () => random(U32));
  const messages: RightMessage[] = [
    { kind: 'prove', key, proofs: [proof, proof] },
    { kind: 'challenge', key, nonce, pieces },
    { kind: 'answer', key, nonce, proof },
  ];
  return pick(messages, random);
}

function randomStream(random: Random): Buffer {
  const hello = { versionMin: 1, versionMax: 1, self: '10.0.0.1:65002', zone: 'a', nodeName: 'n' };
  const frames = [encodeHello({ ...hello, nonce: new Uint8Array(16), role: 1 as const })];
  for (let count = random(6); count > 0; count--) {
    if (random(5) === 0) frames.push(encodeRightMessage(randomRightMessage(random)));
    else if (random(3) > 0) frames.push(encodeMessage(randomMessage(random)));
    else {
      const lengthBytes = 1 + random(3000);
      frames.push(encodeChunkHead(random(9), random(9), lengthBytes), Buffer.alloc(lengthBytes, random(256)));
    }
  }
  return Buffer.concat(frames);
}

/** What a reader made of a stream: told as text, so that two readings can be compared. */
class Reading implements FrameHandler {
  readonly seen: string[] = [];

  onControl(type: number, payload: Buffer): void {
    if (type === FrameType.hello) this.seen.push(parseHello(payload).self);
    else if (isRightFrame(type)) this.seen.push(JSON.stringify(parseRightMessage(type, payload)));
    else this.seen.push(JSON.stringify(parseMessage(type, payload)));
  }

  onChunk(requestId: number, chunk: number, lengthBytes: number) {
    this.seen.push(`chunk ${requestId} ${chunk} ${lengthBytes}`);
    if (requestId % 2 === 0) return undefined;
    const buffer = Buffer.alloc(lengthBytes);
    let filledBytes = 0;
    return {
      buffer,
      filled: (count: number) => {
        filledBytes += count;
      },
      done: () => this.seen.push(`${filledBytes} ${digestOf(buffer)}`),
      broken: () => undefined,
    };
  }
}

function read(pieces: readonly Buffer[]): string[] {
  const reading = new Reading();
  const reader = new FrameReader(reading);
  try {
    for (const piece of pieces) reader.feed(piece);
  } catch (error) {
    expectOurs(error, (found) => isShoalError(found, ErrorCode.PeerProtocol));
    reading.seen.push(`${REFUSED} ${String(error)}`);
  }
  return reading.seen;
}

function cut(stream: Buffer, random: Random): Buffer[] {
  const pieces: Buffer[] = [];
  for (let at = 0; at < stream.length; ) {
    const piece = stream.subarray(at, at + 1 + random(pick([3, 40, 2000], random)));
    pieces.push(piece);
    at += piece.length;
  }
  return pieces;
}

test('a damaged stream is refused as the fault of its sender, wherever it is cut', async () => {
  await repeat((random) => {
    const whole = randomStream(random);
    assert.equal(
      read([whole]).filter((event) => event.startsWith(REFUSED)),
      [],
    );
    const stream = damage(whole, random);
    assert.equal(read(cut(stream, random)), read([stream]));
  }, 0.5);
});

test('what is understood says the same when it is sent on', async () => {
  await repeat((random) => {
    const message = randomMessage(random);
    const frame = encodeMessage(message);
    assert.equal(parseMessage(frame.readUInt8(4), frame.subarray(5)), message);
    const payload = damage(frame.subarray(5), random);
    const type = random(4) === 0 ? random(40) : frame.readUInt8(4);
    let parsed: PeerMessage;
    try {
      parsed = parseMessage(type, payload);
    } catch (error) {
      expectOurs(error, (found) => isShoalError(found, ErrorCode.PeerProtocol));
      return;
    }
    const again = encodeMessage(parsed);
    assert.equal(parseMessage(again.readUInt8(4), again.subarray(5)), parsed);
  }, 0.5);
});

test.run();
