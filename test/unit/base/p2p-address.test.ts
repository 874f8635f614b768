import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { isShoalError } from '../../../shim/base/errors.ts';
import {
  DEFAULT_P2P_HOST_RULES,
  originHostOf,
  originImageOf,
  type P2pHostRule,
  p2pHostOf,
  p2pImageOf,
  parseP2pHostRule,
} from '../../../shim/base/p2p-address.ts';
import { pick, type Random, randomFrom } from '../../support/fuzz.ts';

const rules = DEFAULT_P2P_HOST_RULES;
const origin = 'test-registry-vpc.cn-hangzhou.cr.aliyuncs.com';
const p2p = 'test-registry-vpc.distributed.cn-hangzhou.cr.aliyuncs.com:65001';

test('p2pHostOf() and originHostOf() map the address that the guides show', () => {
  assert.is(p2pHostOf(origin, rules), p2p);
  assert.is(originHostOf(p2p, rules), origin);
});

test('p2pHostOf() gives no form to a host that no rule names', () => {
  for (const host of [
    'ghcr.io',
    'docker.io',
    'cr.aliyuncs.com',
    'a.cr.aliyuncs.com.evil.test',
    'xcr.aliyuncs.com',
  ])
    assert.is(p2pHostOf(host, rules), undefined, host);
  assert.is(originHostOf('ghcr.distributed.io:65001', rules), undefined);
});

test('p2pHostOf() gives no form to ports, addresses, single labels and P2P addresses', () => {
  const wide: readonly P2pHostRule[] = [{ hosts: '*', label: 'distributed', port: 65_001 }];
  const without = [
    'a.test:5000',
    '127.0.0.1',
    '[::1]',
    'localhost',
    '',
    'a..test',
    p2p,
    'a.distributed.test',
    '-a.test',
  ];
  for (const host of without) assert.is(p2pHostOf(host, wide), undefined, host);
  assert.is(p2pHostOf(`${'a.'.repeat(130)}test`, wide), undefined, 'too long');
});

test('originHostOf() takes the whole form only', () => {
  const near = [
    origin,
    p2p.replace(':65001', ''),
    p2p.replace(':65001', ':65002'),
    `${p2p}0`,
    p2p.replace('.distributed', ''),
    'test.distributed:65001',
    'distributed.cn-hangzhou.cr.aliyuncs.com:65001',
    'a.distributed.distributed.cr.aliyuncs.com:65001',
    'a.distributed.other.test:65001',
  ];
  for (const host of near) assert.is(originHostOf(host, rules), undefined, host);
});

test('originImageOf() and p2pImageOf() leave everything behind the host alone', () => {
  const rest = `/docker-builder/nginx:latest@sha256:${'0'.repeat(64)}`;
  assert.is(originImageOf(`${p2p}${rest}`, rules), `${origin}${rest}`);
  assert.is(p2pImageOf(`${origin}${rest}`, rules), `${p2p}${rest}`);
  assert.is(originImageOf(`${origin}${rest}`, rules), undefined);
  assert.is(originImageOf(p2p, rules), undefined);
  assert.is(originImageOf(`nginx/${p2p}/a`, rules), undefined);
});

test('the two maps are inverse to each other for any rules and hosts', () => {
  let mapped = 0;
  for (let seed = 1; seed <= 3000; seed += 1) {
    const random = randomFrom(seed);
    const drawn = Array.from({ length: 1 + random(3) }, () => drawRule(random));
    const host = drawHost(random);
    const there = p2pHostOf(host, drawn);
    if (there !== undefined) {
      mapped += 1;
      assert.is(originHostOf(there, drawn), host, `seed ${seed}: ${host} → ${there}`);
      assert.is(p2pHostOf(there, drawn), undefined, `seed ${seed}: ${there} is P2P already`);
    }
    const back = originHostOf(`${host}:65001`, drawn);
    if (back === undefined) continue;
    mapped += 1;
    assert.is(p2pHostOf(back, drawn), `${host}:65001`, `seed ${seed}: ${host} ← ${back}`);
  }
  assert.ok(mapped > 500, `${mapped} of the drawn hosts map, enough to mean something`);
});

test('parseP2pHostRule() reads both forms', () => {
  assert.equal(parseP2pHostRule('*.CR.aliyuncs.com'), rules[0]);
  assert.equal(parseP2pHostRule('*.registry.example=p2p:7000'), {
    hosts: '*.registry.example',
    label: 'p2p',
    port: 7000,
  });
});

test('parseP2pHostRule() refuses what names everything or nothing', () => {
  const refused = [
    '',
    '*',
    '*.*',
    'a',
    '*.test=',
    '*.test=p2p',
    '*.test=p2p:0',
    '*.test=p2p:65536',
    '*.test=.:1',
    '10.0.0.1',
  ];
  for (const text of [...refused, '*.test=a:1=b', 'a..test', '*.te st', '*.test=a.b:1'])
    assert.throws(
      () => parseP2pHostRule(text),
      (error: unknown) => isShoalError(error, 'CONFIG_INVALID'),
      text,
    );
});

function drawRule(random: Random): P2pHostRule {
  const hosts = pick(['*.test', '*.x.test', 'a*.test', 'a.x.test', '*.distributed.test', '*x*.test'], random);
  return {
    hosts,
    label: pick(['distributed', 'p2p', 'x'], random),
    port: pick([65_001, 65_001, 7000], random),
  };
}

function drawHost(random: Random): string {
  const labels = Array.from({ length: 1 + random(4) }, () =>
    pick(['a', 'b', 'x', 'distributed', 'p2p', '1'], random),
  );
  return [...labels, pick(['test', 'test', 'com'], random)].join('.');
}

test.run();
