// Feeds damaged bytes to what reads ttrpc and NRI: frames and multiplexer as a stream that is cut anywhere, messages, a
// live server, and the plugin's own requests. A failure prints the seed that repeats it:
//   FUZZ_SEED=n FUZZ_SECONDS=n node test/fuzz/ttrpc.test.ts
import { Duplex } from 'node:stream';
import { DATA_BYTES_MAX, encodeFrame, type Frame, FrameDecoder, FrameType, serve, TtrpcError } from 'ttrpc';
import { stringField } from 'ttrpc/protobuf';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { encodeMux, MuxDecoder } from '../../nri/mux.ts';
import { pluginServices } from '../../nri/plugin-service.ts';
import { decodeRequest, decodeResponse, encodeRequest, encodeResponse } from '../../nri/ttrpc/messages.ts';
import { ErrorCode, isShoalError } from '../../shim/base/errors.ts';
import { damage, expectOurs, pick, type Random, repeat } from '../support/fuzz.ts';

const test = suite('ttrpc and NRI fuzz');
const SHARE = 1 / 5;

function bytesOf(random: Random, below = 300): Buffer {
  return Buffer.from(Array.from({ length: random(below) }, () => random(256)));
}

function text(random: Random): string {
  return pick(['', 'a', 'nri.pkg.api.v1alpha1.Plugin', 'RunPodSandbox', 'ü\n\0', 'x'.repeat(300)], random);
}

function randomFrame(random: Random): Frame {
  const streamId = pick([1, 2, 3, 0, 0xffff_ffff, random(1000)], random);
  const data = random(20) === 0 ? Buffer.alloc(70_000, random(256)) : bytesOf(random);
  return { streamId, type: pick([1, 2, 3, random(256)], random), flags: random(256), data };
}

function* pieces(bytes: Buffer, random: Random): Generator<Buffer> {
  for (let offset = 0; offset < bytes.length; ) {
    const size = 1 + random(pick([2, 20, 5000, 100_000], random));
    yield Buffer.from(bytes.subarray(offset, offset + size));
    offset += size;
  }
}

test('frames come back however the stream was cut', () =>
  repeat((random) => {
    const frames = Array.from({ length: 1 + random(6) }, () => randomFrame(random));
    const decoder = new FrameDecoder();
    const found: Frame[] = [];
    for (const piece of pieces(Buffer.concat(frames.map(encodeFrame)), random)) {
      decoder.feed(piece);
      found.push(...decoder.collect());
    }
    assert.equal(found, frames);
  }, SHARE));

test('damaged frames are read or skipped, and never longer than allowed', () =>
  repeat((random) => {
    const frames = Array.from({ length: 1 + random(6) }, () => encodeFrame(randomFrame(random)));
    const decoder = new FrameDecoder();
    for (const piece of pieces(damage(Buffer.concat(frames), random), random)) {
      decoder.feed(piece);
      for (const { data, discardedBytes } of decoder.collect()) {
        assert.ok(data.length <= DATA_BYTES_MAX);
        assert.ok(discardedBytes === undefined || (discardedBytes > DATA_BYTES_MAX && data.length === 0));
      }
    }
  }, SHARE));

test('messages come back, and damaged ones are a TtrpcError', () =>
  repeat((random) => {
    const metadata = new Map([[text(random).toLowerCase(), [text(random), text(random)]]]);
    const timeoutMs = pick([undefined, 1, 2000, 86_400_000], random);
    const request = {
      service: text(random),
      method: text(random),
      payload: bytesOf(random),
      timeoutMs,
      metadata,
    };
    const encoded = encodeRequest(request);
    assert.equal(decodeRequest(encoded), request);
    const error = new TtrpcError(1 + random(20), text(random), {
      details: [{ typeUrl: 'x', value: bytesOf(random) }],
    });
    const response = encodeResponse(pick([{ error }, { payload: bytesOf(random) }], random));
    for (const [decode, bytes] of [
      [decodeRequest, encoded],
      [decodeResponse, response],
    ] as const) {
      try {
        decode(damage(bytes, random));
      } catch (thrown) {
        expectOurs(thrown, (value) => value instanceof TtrpcError);
      }
    }
  }, SHARE));

test('the multiplexer gives back each stream, and damaged frames are our error', () =>
  repeat((random) => {
    const messages = Array.from({ length: 1 + random(4) }, () => ({
      id: 1 + random(2),
      bytes: Buffer.alloc(1 + random(pick([10, 10_000, 1_500_000], random)), random(256)),
    }));
    const wire = Buffer.concat(messages.map(({ id, bytes }) => encodeMux(id, bytes)));
    const streams = new Map<number, Buffer[]>([
      [1, []],
      [2, []],
    ]);
    const decoder = new MuxDecoder();
    for (const piece of pieces(wire, random)) decoder.feed(piece, (id, part) => streams.get(id)?.push(part));
    for (const [id, parts] of streams) {
      const wanted = Buffer.concat(messages.filter((message) => message.id === id).map(({ bytes }) => bytes));
      assert.ok(Buffer.concat(parts).equals(wanted));
    }
    try {
      const damaged = new MuxDecoder();
      for (const piece of pieces(damage(wire, random), random)) damaged.feed(piece, () => undefined);
    } catch (thrown) {
      expectOurs(thrown, (value) => isShoalError(value, ErrorCode.PeerProtocol));
    }
  }, SHARE));

test('a plugin that gets damaged requests answers with nothing but responses', () =>
  repeat(async (random) => {
    const answers = new FrameDecoder();
    const wire = new Duplex({
      read: () => undefined,
      write: (chunk: Buffer, _encoding, done) => {
        answers.feed(chunk);
        done();
      },
    });
    const quiet = (): void => undefined;
    const events = {
      configure: quiet,
      synchronize: quiet,
      runPodSandbox: quiet,
      removePodSandbox: quiet,
      createContainer: () => ({ key: 'value' }),
    };
    const server = serve(wire, pluginServices(events, quiet));
    const methods = ['Configure', 'Synchronize', 'StateChange', 'RunPodSandbox', 'CreateContainer', 'None'];
    const requests = Array.from({ length: 5 }, (_, index) => {
      const payload = damage(
        Buffer.concat([stringField(1, text(random)), stringField(2, text(random))]),
        random,
      );
      const service = 'nri.pkg.api.v1alpha1.Plugin';
      const request = {
        service,
        method: pick(methods, random),
        payload,
        timeoutMs: 2000,
        metadata: new Map(),
      };
      const frame = {
        streamId: 2 * index + 1,
        type: FrameType.Request,
        flags: 0,
        data: encodeRequest(request),
      };
      return random(3) === 0 ? damage(encodeFrame(frame), random) : encodeFrame(frame);
    });
    wire.push(Buffer.concat(requests));
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
    server.close();
    assert.ok(answers.collect().every(({ type }) => type === FrameType.Response));
  }, SHARE));

test.run();
