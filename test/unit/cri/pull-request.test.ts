import protobuf from 'protobufjs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { decodePullImageRequest, encodePullImageResponse } from '../../../shim/cri/pull-request.ts';

/** The messages as the CRI API declares them, with fields around those that are read. */
const { root } = protobuf.parse(
  `
  syntax = "proto3";
  message ImageSpec { string image = 1; map<string, string> annotations = 2; string user_specified_image = 18;
    string runtime_handler = 19; string image_ref = 20; }
  message AuthConfig { string username = 1; string password = 2; string auth = 3; string server_address = 4;
    string identity_token = 5; string registry_token = 6; }
  message PodSandboxMetadata { string name = 1; string uid = 2; string namespace = 3; uint32 attempt = 4; }
  message PortMapping { int32 container_port = 2; }
  message PodSandboxConfig { PodSandboxMetadata metadata = 1; string hostname = 2; repeated PortMapping port_mappings = 5;
    map<string, string> labels = 6; map<string, string> annotations = 7; fixed64 later = 40; fixed32 latest = 41; }
  message PullImageRequest { ImageSpec image = 1; AuthConfig auth = 2; PodSandboxConfig sandbox_config = 3; uint64 count = 9; }
  message PullImageResponse { string image_ref = 1; }
`,
  { keepCase: true },
);

function encode(value: object): Buffer {
  const type = root.lookupType('PullImageRequest');
  return Buffer.from(type.encode(type.fromObject(value)).finish());
}

test('decodePullImageRequest() reads what kubelet sends', () => {
  const request = decodePullImageRequest(
    encode({
      image: {
        image: 'registry.test/app:1',
        annotations: { 'a/b': 'p2p', empty: '' },
        user_specified_image: 'x',
        runtime_handler: 'kata',
      },
      auth: { username: 'u', password: 'p', server_address: 'https://registry.test' },
      sandbox_config: {
        metadata: { name: 'web-0', uid: '1-2', namespace: 'shop', attempt: 3 },
        hostname: 'web-0',
        port_mappings: [{ container_port: 80 }],
        labels: { app: 'web' },
        annotations: { note: 'größer' },
        later: 7,
        latest: 8,
      },
      count: 1234567890123,
    }),
  );
  assert.is(request.image, 'registry.test/app:1');
  assert.equal(
    request.imageAnnotations,
    new Map([
      ['a/b', 'p2p'],
      ['empty', ''],
    ]),
  );
  assert.is(request.runtimeHandler, 'kata');
  assert.equal(request.credentials, { username: 'u', password: 'p', serverAddress: 'https://registry.test' });
  assert.equal(request.pod, {
    name: 'web-0',
    uid: '1-2',
    namespace: 'shop',
    labels: new Map([['app', 'web']]),
    annotations: new Map([['note', 'größer']]),
  });
});

test('decodePullImageRequest() knows neither pod nor credentials when there are none', () => {
  const request = decodePullImageRequest(encode({ image: { image: 'a' }, auth: { server_address: 'b' } }));
  assert.is(request.pod, undefined);
  assert.is(request.credentials, undefined);
  assert.is(request.runtimeHandler, undefined);
  assert.is(decodePullImageRequest(Buffer.alloc(0)).image, '');
});

test('decodePullImageRequest() refuses every truncation without reading past the end', () => {
  const whole = encode({
    image: { image: 'registry.test/app:1' },
    sandbox_config: { metadata: { name: 'n' } },
  });
  const image = encode({ image: { image: 'registry.test/app:1' } }).length;
  for (let sizeBytes = 1; sizeBytes < whole.length; sizeBytes += 1) {
    if (sizeBytes === image) continue;
    assert.throws(
      () => decodePullImageRequest(whole.subarray(0, sizeBytes)),
      /wanted a protobuf message/,
      `${sizeBytes} bytes`,
    );
  }
});

test('decodePullImageRequest() refuses groups, endless varints and too many fields', () => {
  for (const bad of [
    Buffer.from([0x0b]),
    Buffer.alloc(11, 0xff),
    Buffer.from([0x08]),
    Buffer.alloc(400_000, '\x0a\x00'),
  ]) {
    assert.throws(() => decodePullImageRequest(bad), /wanted a protobuf message/);
  }
});

test('encodePullImageResponse() is read by a protobuf library', () => {
  const imageRef = `sha256:${'a'.repeat(64)}`;
  const type = root.lookupType('PullImageResponse');
  assert.is(
    (type.decode(encodePullImageResponse(imageRef)) as unknown as { image_ref: string }).image_ref,
    imageRef,
  );
});

test.run();
