import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { DEFAULT_P2P_HOST_RULES } from '../../../shim/base/p2p-address.ts';
import { mapPullRequest } from '../../../shim/cri/p2p-request.ts';
import { writeField } from '../../../shim/cri/protobuf-reader.ts';
import { decodePullImageRequest } from '../../../shim/cri/pull-request.ts';

const rules = DEFAULT_P2P_HOST_RULES;
const origin = 'team.cn.cr.aliyuncs.com';
const p2p = 'team.distributed.cn.cr.aliyuncs.com:65001';
const text = (field: number, value: string) => writeField(field, Buffer.from(value));
/** Field 100 of each wire type that is not length-delimited, and one that nobody knows. */
const strange = Buffer.from([
  0xa0, 0x06, 0x96, 0x01, 0xa1, 0x06, 1, 2, 3, 4, 5, 6, 7, 8, 0xa5, 0x06, 1, 2, 3, 4,
]);
const unknown = Buffer.concat([strange, text(101, 'of another age')]);

function request(image: string, serverAddress?: string): Buffer {
  const spec = Buffer.concat([unknown, text(1, image), text(19, 'runc'), text(18, 'as in the pod')]);
  const auth = Buffer.concat([text(1, 'user'), text(2, 'secret'), unknown, text(4, serverAddress ?? '')]);
  const pod = writeField(3, text(2, 'host'));
  return Buffer.concat([writeField(1, spec), unknown, writeField(2, auth), pod]);
}

test('mapPullRequest() maps the image back and keeps every other byte', () => {
  const mapped = mapPullRequest(request(`${p2p}/app:1`), rules);
  assert.equal(mapped?.image, { p2p: `${p2p}/app:1`, origin: `${origin}/app:1` });
  assert.ok(mapped?.message.equals(request(`${origin}/app:1`)));
});

test('mapPullRequest() leaves requests without P2P addresses alone', () => {
  for (const image of [`${origin}/app:1`, 'nginx', 'ghcr.distributed.io:65001/a', '', `x/${p2p}/app`])
    assert.is(mapPullRequest(request(image, origin), rules), undefined, image);
  assert.is(mapPullRequest(request(`${p2p}/app:1`), []), undefined, 'no rules');
});

test('mapPullRequest() takes the server address of either host form to the origin', () => {
  const forms = [
    p2p,
    `https://${p2p}`,
    `https://${p2p}/v2/`,
    origin,
    `https://${origin}`,
    `http://${origin}/v1/`,
  ];
  for (const form of forms) {
    const mapped = mapPullRequest(request(`${p2p}/app:1`, form), rules);
    const { credentials } = decodePullImageRequest(mapped?.message ?? Buffer.alloc(0));
    assert.is(credentials?.serverAddress, `https://${origin}`, form);
    assert.is(credentials?.password, 'secret');
  }
});

test('mapPullRequest() maps a P2P server address beside an image of the origin', () => {
  const mapped = mapPullRequest(request(`${origin}/app:1`, p2p), rules);
  assert.is(mapped?.image, undefined);
  const decoded = decodePullImageRequest(mapped?.message ?? Buffer.alloc(0));
  assert.is(decoded.image, `${origin}/app:1`);
  assert.is(decoded.credentials?.serverAddress, `https://${origin}`);
});

test('mapPullRequest() leaves the server address of a stranger as it is', () => {
  for (const stranger of ['evil.test', `${origin}.evil.test`, `https://x.distributed.cr.evil.test:65001`]) {
    const mapped = mapPullRequest(request(`${p2p}/app:1`, stranger), rules);
    const { credentials } = decodePullImageRequest(mapped?.message ?? Buffer.alloc(0));
    assert.is(credentials?.serverAddress, stranger);
  }
});

test.run();
