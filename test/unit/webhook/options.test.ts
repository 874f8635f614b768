import { spawnSync } from 'node:child_process';
import { resolve } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { readOptions } from '../../../webhook/options.ts';

const LAUNCHER = resolve(import.meta.dirname, '../../../webhook/shoal-webhook');

test('readOptions() takes names from the downward API and has a default for the rest', () => {
  const options = readOptions([], { POD_NAMESPACE: 'mine', POD_NAME: 'webhook-0' });
  assert.is(options.ownNamespace, 'mine');
  assert.is(options.identity, 'webhook-0');
  assert.equal(options.listen, { host: '0.0.0.0', port: 8443 });
  assert.equal(options.limits, {});
  assert.is(options.hostRules[0]?.hosts, '*.cr.aliyuncs.com');
});

test('readOptions() reads lists, limits and addresses', () => {
  const { namespaces, hostRules, limits, listen } = readOptions(
    [
      ...['--namespace=a', '--namespace=b', '--namespace=a', '--listen=[::1]:99', '--warm-at-once=4'],
      ...['--throttle-limit-mb', '70', '--p2p-host=*.registry.test=p2p:65001'],
    ],
    {},
  );
  assert.equal(namespaces, ['a', 'b']);
  assert.equal(hostRules, [{ hosts: '*.registry.test', label: 'p2p', port: 65_001 }]);
  assert.equal(limits, { warmAtOnce: 4, throttleLimitMB: 70 });
  assert.equal(listen, { host: '::1', port: 99 });
});

test('shoal-webhook refuses what it cannot use, and says what it wants', () => {
  const bad: [string[], RegExp][] = [
    [['--listen=8443'], /HOST:PORT/],
    [['--listen=a:99999'], /HOST:PORT/],
    [['--namespace=Upper'], /lower-case/],
    [['--p2p-host=x'], /GLOB=LABEL:PORT/],
    [['--warm-at-once=17'], /from 1 to 16/],
    [['--tls-cert=a.pem'], /belong together/],
    [['--certificate-days=400'], /at least three times/],
    [['--tls-cert=/none.pem', '--tls-key=/none.pem', '--health-listen=127.0.0.1:0'], /none\.pem.*ENOENT/],
  ];
  for (const [args, message] of bad) {
    const { status, stdout, stderr } = spawnSync(LAUNCHER, args, { encoding: 'utf8', timeout: 30_000 });
    assert.is(status, 1, args.join(' '));
    assert.match(stdout + stderr, message);
  }
});

test.run();
