import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { DEFAULT_P2P_HOST_RULES } from '../../../shim/base/p2p-address.ts';
import { parseFrontOptions } from '../../../shim/front/front-options.ts';

test('parseFrontOptions() has a default for everything', () => {
  assert.equal(parseFrontOptions([], {}), {
    socketPath: '/run/shoal/cri.sock',
    containerdSocketPath: '/run/containerd/containerd.sock',
    agentSocketPath: '/run/shoal/agent/cri.sock',
    http: { listen: { host: '127.0.0.1', port: 65001 }, agent: { path: '/run/shoal/agent/http.sock' } },
    p2pRules: DEFAULT_P2P_HOST_RULES,
  });
});

test('parseFrontOptions() reads P2P address rules as the agent does', () => {
  const rules = (...args: string[]) => parseFrontOptions(args, {})?.p2pRules;
  assert.equal(rules('--p2p-addresses', '*.a.test, *.b.test=p2p:7000'), [
    { hosts: '*.a.test', label: 'distributed', port: 65_001 },
    { hosts: '*.b.test', label: 'p2p', port: 7000 },
  ]);
  assert.equal(rules('--p2p-addresses=off'), []);
  assert.is(
    parseFrontOptions([], { SHOAL_FRONT_P2P_ADDRESSES: '*.c.test' })?.p2pRules?.[0]?.hosts,
    '*.c.test',
  );
  assert.throws(() => rules('--p2p-addresses', '*'), /Cannot read P2P address rule "\*"/);
});

test('parseFrontOptions() takes flags before the environment before defaults', () => {
  const env = { SHOAL_FRONT_SOCKET: '/env.sock', SHOAL_FRONT_AGENT_HTTP: '127.0.0.1:9' };
  const options = parseFrontOptions(['--containerd=unix:///c.sock', '--http', '[::1]:80'], env);
  assert.is(options?.socketPath, '/env.sock');
  assert.is(options?.containerdSocketPath, '/c.sock');
  assert.equal(options?.http, { listen: { host: '::1', port: 80 }, agent: { host: '127.0.0.1', port: 9 } });
  assert.is(parseFrontOptions(['--socket', '/flag.sock', '--http', 'off'], env)?.socketPath, '/flag.sock');
  assert.is(parseFrontOptions(['--http', 'off'], {})?.http, undefined);
  assert.is(parseFrontOptions(['--help'], {}), undefined);
});

test('parseFrontOptions() refuses what it does not know and names it', () => {
  for (const [args, message] of [
    [['--sock', '/a'], /found "--sock"/],
    [['stray'], /found "stray"/],
    [['--socket'], /"--socket" without a value/],
    [['--socket', 'relative.sock'], /Cannot use "--socket": found "relative.sock", wanted an absolute path/],
    [['--http', '65001'], /wanted HOST:PORT/],
    [['--http', 'a:99999'], /wanted HOST:PORT/],
    [['--toString', 'x'], /found "--toString"/],
  ] as const) {
    assert.throws(() => parseFrontOptions(args, {}), message);
  }
});

test.run();
