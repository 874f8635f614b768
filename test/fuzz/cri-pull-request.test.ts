// Feeds damaged bytes to the reader of PullImageRequest. What was written is read back; whatever else a caller sends, it
// gives a request or the one error after which containerd gets the bytes. A failure prints the seed that repeats it:
//   FUZZ_SEED=n FUZZ_SECONDS=n node test/fuzz/cri-pull-request.test.ts
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { ErrorCode, isShoalError } from '../../shim/base/errors.ts';
import { frameMessage, unframeMessage } from '../../shim/cri/grpc-wire.ts';
import { writeField } from '../../shim/cri/protobuf-reader.ts';
import { type CriPullRequest, decodePullImageRequest } from '../../shim/cri/pull-request.ts';
import { damage, expectOurs, pick, type Random, repeat } from '../support/fuzz.ts';

const test = suite('CRI pull request fuzz');

function text(random: Random): string {
  return pick(
    ['', 'a', 'registry.test/app:1', 'k8s.aliyun.com/image-accelerate-mode', 'ü\n\0', 'x'.repeat(300)],
    random,
  );
}

/** Fields that nobody reads, of every wire type. */
function strangeField(random: Random): Buffer {
  const number = 100 + random(20);
  const tag = (wireType: number): Buffer => {
    const value = number * 8 + wireType;
    return Buffer.from([(value & 0x7f) | 0x80, value >>> 7]);
  };
  const fields = [
    () => Buffer.concat([tag(0), Buffer.from([0xff, 0xff, 0x03])]),
    () => Buffer.concat([tag(1), Buffer.alloc(8, 0xff)]),
    () => Buffer.concat([tag(5), Buffer.alloc(4, 0xff)]),
    () => writeField(number, Buffer.alloc(random(20), 0xff)),
  ];
  return pick(fields, random)();
}

function message(fields: readonly Buffer[], random: Random): Buffer {
  return Buffer.concat(
    fields.flatMap((field) => (random(3) === 0 ? [strangeField(random), field] : [field])),
  );
}

function randomMap(random: Random): Map<string, string> {
  return new Map(Array.from({ length: random(4) }, () => [text(random), text(random)]));
}

function mapFields(field: number, map: ReadonlyMap<string, string>): Buffer[] {
  return [...map].map(([key, value]) =>
    writeField(field, Buffer.concat([writeField(1, Buffer.from(key)), writeField(2, Buffer.from(value))])),
  );
}

/** A request and its bytes. */
function randomRequest(random: Random): { readonly request: CriPullRequest; readonly bytes: Buffer } {
  const string = (field: number, value: string): Buffer => writeField(field, Buffer.from(value));
  const image = text(random);
  const imageAnnotations = randomMap(random);
  const handler = text(random);
  const password = text(random);
  const pod = { name: text(random), uid: text(random), namespace: text(random) };
  const labels = randomMap(random);
  const annotations = randomMap(random);
  const spec = message([string(1, image), ...mapFields(2, imageAnnotations), string(19, handler)], random);
  const metadata = message([string(1, pod.name), string(2, pod.uid), string(3, pod.namespace)], random);
  const config = [writeField(1, metadata), ...mapFields(6, labels), ...mapFields(7, annotations)];
  const fields = [
    writeField(1, spec),
    writeField(2, string(2, password)),
    writeField(3, message(config, random)),
  ];
  const request = {
    image,
    imageAnnotations,
    runtimeHandler: handler === '' ? undefined : handler,
    credentials: password === '' ? undefined : { password },
    pod: { ...pod, labels, annotations },
  };
  return { request, bytes: message(fields, random) };
}

test('what was written is read, and damaged bytes give a request or Unsupported', async () => {
  await repeat((random) => {
    const { request, bytes } = randomRequest(random);
    assert.equal(decodePullImageRequest(unframeMessage(frameMessage(bytes)).message), request);
    const body = damage(random(2) === 0 ? frameMessage(damage(bytes, random)) : frameMessage(bytes), random);
    try {
      const decoded = decodePullImageRequest(unframeMessage(body).message);
      assert.type(decoded.image, 'string');
    } catch (error) {
      expectOurs(error, (found) => isShoalError(found, ErrorCode.Unsupported));
    }
  }, 0.8);
});

test('a request that ends inside its last field is refused', async () => {
  await repeat((random) => {
    const whole = writeField(1, writeField(1, Buffer.from(text(random))));
    const part = whole.subarray(0, 1 + random(whole.length - 1));
    assert.throws(
      () => decodePullImageRequest(part),
      (error: unknown) => isShoalError(error, ErrorCode.Unsupported),
    );
  }, 0.2);
});

test.run();
