import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ErrorCode, isShoalError } from '../../../shim/base/errors.ts';
import {
  formatP2pConfig,
  P2P_CONFIG_BYTES_MAX,
  P2P_CONFIG_IMAGES_MAX,
  P2P_CONFIG_SECRETS_MAX,
  type P2pConfig,
  parseP2pConfig,
  parseP2pConfigLimits,
} from '../../../shim/base/p2p-config.ts';

const full: P2pConfig = {
  version: 1,
  images: ['registry.test:5000/app/web:1', `app@sha256:${'0'.repeat(64)}`],
  secrets: ['acr-credential-test-registry-p2p'],
  limits: { warmAtOnce: 3, throttleLimitMB: 100 },
};
const text = (change: object) => JSON.stringify({ version: 1, images: [], secrets: [], ...change });

function refusal(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    if (isShoalError(error)) return `${error.code} ${error.message}`;
    throw error;
  }
  return 'taken';
}

test('parseP2pConfig() reads back what formatP2pConfig() wrote, limits or not', () => {
  for (const limits of [full.limits, {}, { warmAtOnce: 16 }, { throttleLimitMB: 1 }])
    assert.equal(parseP2pConfig(formatP2pConfig({ ...full, limits })), { ...full, limits });
});

test('formatP2pConfig() writes one line, the same for the same config', () => {
  const { limits, secrets, images } = full;
  assert.is(formatP2pConfig({ limits, secrets, images, version: 1 }), formatP2pConfig(full));
  assert.is(
    formatP2pConfig({ version: 1, images: ['a'], secrets: [], limits: {} }),
    '{"version":1,"images":["a"],"secrets":[]}',
  );
});

test('parseP2pConfig() leaves out keys of a newer writer and refuses another version', () => {
  assert.equal(parseP2pConfig(text({ later: true, limits: { later: 1 } })), {
    version: 1,
    images: [],
    secrets: [],
    limits: {},
  });
  for (const version of [0, 2, '1', null, undefined])
    assert.match(
      refusal(() => parseP2pConfig(text({ version }))),
      /CONFIG_INVALID.*version.*wanted 1/,
    );
});

test('parseP2pConfig() refuses what is no config, and says where', () => {
  const bad: [object | string, RegExp][] = [
    ['', /not JSON/],
    ['null', /not a JSON object/],
    ['[]', /not a JSON object/],
    ['"x"', /not a JSON object/],
    [{ images: 'a' }, /"images" .* not a list/],
    [{ secrets: undefined }, /"secrets" .* not a list/],
    [{ images: ['a', 7] }, /"images\[1\]".*it is 7/],
    [{ images: ['two words'] }, /"images\[0\]"/],
    [{ images: ['line\nbreak'] }, /"images\[0\]"/],
    [{ images: [''] }, /"images\[0\]"/],
    [{ images: ['a'.repeat(513)] }, /"images\[0\]"/],
    [{ secrets: ['Upper'] }, /"secrets\[0\]"/],
    [{ secrets: ['../other'] }, /"secrets\[0\]"/],
    [{ secrets: ['a'.repeat(254)] }, /"secrets\[0\]"/],
    [{ limits: [] }, /"limits"/],
    [{ limits: { warmAtOnce: 0 } }, /"warmAtOnce" .* from 1 to 16/],
    [{ limits: { warmAtOnce: 17 } }, /"warmAtOnce"/],
    [{ limits: { warmAtOnce: 1.5 } }, /"warmAtOnce"/],
    [{ limits: { throttleLimitMB: '100' } }, /"throttleLimitMB" .* it is "100"/],
    [{ limits: { throttleLimitMB: 100_001 } }, /from 1 to 100000/],
  ];
  for (const [change, expected] of bad) {
    const given = typeof change === 'string' ? change : text(change);
    const found = refusal(() => parseP2pConfig(given));
    assert.match(found, expected);
    assert.ok(found.startsWith(ErrorCode.ConfigInvalid), found);
    assert.ok(found.length < 300, 'a message stays short whatever was sent');
  }
});

test('parseP2pConfig() takes as much as its limits say and not one more', () => {
  const images = (count: number) => text({ images: Array(count).fill('a') });
  const secrets = (count: number) => text({ secrets: Array(count).fill('a') });
  assert.is(parseP2pConfig(images(P2P_CONFIG_IMAGES_MAX)).images.length, P2P_CONFIG_IMAGES_MAX);
  assert.is(parseP2pConfig(secrets(P2P_CONFIG_SECRETS_MAX)).secrets.length, P2P_CONFIG_SECRETS_MAX);
  assert.is(parseP2pConfig(text({}).padEnd(P2P_CONFIG_BYTES_MAX)).version, 1);
  const tooMuch = [
    images(P2P_CONFIG_IMAGES_MAX + 1),
    secrets(P2P_CONFIG_SECRETS_MAX + 1),
    text({}).padEnd(P2P_CONFIG_BYTES_MAX + 1),
  ];
  for (const given of tooMuch)
    assert.match(
      refusal(() => parseP2pConfig(given)),
      /^LIMIT_EXCEEDED/,
    );
});

test('parseP2pConfigLimits() reads what a user writes on a pod', () => {
  assert.equal(parseP2pConfigLimits('{"warmAtOnce":2}'), { warmAtOnce: 2 });
  assert.equal(parseP2pConfigLimits('{}'), {});
  assert.match(
    refusal(() => parseP2pConfigLimits('{"warmAtOnce":-1}')),
    /CONFIG_INVALID/,
  );
  assert.match(
    refusal(() => parseP2pConfigLimits('3')),
    /not a JSON object/,
  );
});

test.run();
