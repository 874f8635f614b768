import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { parseNriOptions } from '../../../nri/nri-options.ts';
import { CONFIG_BYTES_MAX, parsePluginConfig } from '../../../nri/plugin-config.ts';
import { isShoalError } from '../../../shim/base/errors.ts';

function refusal(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    assert.ok(isShoalError(error, 'CONFIG_INVALID'), String(error));
    return (error as Error).message;
  }
  throw new Error('nothing was refused');
}

test('parsePluginConfig() takes YAML, JSON and nothing', () => {
  assert.equal(parsePluginConfig(''), {});
  assert.equal(parsePluginConfig('# only a comment\n'), {});
  assert.equal(parsePluginConfig('keyPrefix: a.example\nagentSocket: unix:///run/x.sock\n'), {
    keyPrefix: 'a.example',
    agentSocket: '/run/x.sock',
  });
  assert.equal(parsePluginConfig('{"keyPrefix":"a.example"}'), { keyPrefix: 'a.example' });
});

for (const [text, message] of [
  ['prefix: x', 'Cannot use "prefix": found an unknown key, wanted agentSocket or keyPrefix'],
  ['keyPrefix: "A B"', 'Cannot use "keyPrefix": found "A B", wanted a DNS name in lower case'],
  ['keyPrefix: [a]', 'Cannot use "keyPrefix": found a list'],
  ['keyPrefix: 3', 'Cannot use "keyPrefix": found 3'],
  ['agentSocket: relative', 'Cannot use "agentSocket": found "relative", wanted an absolute path'],
  [`agentSocket: /${'x'.repeat(107)}`, 'up to 107 bytes'],
  ['- a', 'Cannot use "the plugin configuration": found a list, wanted a mapping'],
  ['keyPrefix: a.b\nx: [', 'Cannot use "the plugin configuration, line 2": found no YAML'],
  ['x: &a [1]\ny: *a', 'found no YAML'],
  ['#'.repeat(CONFIG_BYTES_MAX + 1), `over ${CONFIG_BYTES_MAX} bytes`],
] as const) {
  test(`parsePluginConfig() refuses ${JSON.stringify(text.slice(0, 30))} and says why`, () => {
    const found = refusal(() => parsePluginConfig(text));
    assert.ok(found.includes(message), found);
  });
}

test('parseNriOptions() takes flags, then the environment, then defaults', () => {
  assert.equal(parseNriOptions([], {}), {
    runtime: { socketPath: '/var/run/nri/nri.sock' },
    agentSocketPath: '/run/shoal/control.sock',
    keyPrefix: 'k8s.aliyun.com',
    name: 'shoal',
    index: '40',
  });
  const env = { SHOAL_NRI_SOCKET: '/env.sock', SHOAL_NRI_INDEX: '11', SHOAL_NRI_NAME: '' };
  const options = parseNriOptions(['--socket', 'unix:///flag.sock'], env);
  assert.equal([options.runtime, options.index, options.name], [{ socketPath: '/flag.sock' }, '11', 'shoal']);
});

test('parseNriOptions() uses what the runtime gives a plugin that it starts', () => {
  const env = { NRI_PLUGIN_SOCKET: '3', NRI_PLUGIN_NAME: 'own', NRI_PLUGIN_IDX: '07' };
  const { runtime, name, index } = parseNriOptions([], env);
  assert.equal({ runtime, name, index }, { runtime: { fd: 3 }, name: 'own', index: '07' });
  assert.match(
    refusal(() => parseNriOptions([], { ...env, NRI_PLUGIN_SOCKET: '1' })),
    /number of an open file/,
  );
});

test('parseNriOptions() refuses a place of one digit and a strange name', () => {
  assert.is(
    refusal(() => parseNriOptions(['--index', '7'], {})),
    'Cannot use "--index": found "7", wanted two digits',
  );
  assert.match(
    refusal(() => parseNriOptions(['--name', 'a b'], {})),
    /--name/,
  );
});

test.run();
