import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Platform } from '../../../shim/base/descriptor.ts';
import { normalisePlatform, platformRank } from '../../../shim/registry/platform.ts';

const platform = (text: string): Platform => {
  const [os = '', architecture = '', variant] = text.split('/');
  return { os, architecture, ...(variant !== undefined && { variant }) };
};

/** Best first; what containerd's platform comparer gives on such a node. */
const ORDERS: Readonly<Record<string, readonly string[]>> = {
  'linux/amd64': ['linux/amd64', 'linux/386'],
  'linux/amd64/v3': ['linux/amd64/v3', 'linux/amd64/v2', 'linux/amd64/v1', 'linux/386'],
  'linux/arm64': ['linux/arm64/v8', 'linux/arm/v8', 'linux/arm/v7', 'linux/arm/v6', 'linux/arm/v5'],
  'linux/arm64/v8.1': ['linux/arm64/v8.1', 'linux/arm64', 'linux/arm/v8', 'linux/arm/v7'],
  'linux/arm64/v9.1': [
    'linux/arm64/v9.1',
    'linux/arm64/v9',
    'linux/arm64/v8.6',
    'linux/arm64/v8.5',
    'linux/arm64',
  ],
  'linux/arm': ['linux/arm/v7', 'linux/arm/v6', 'linux/arm/v5'],
  'linux/arm/v6': ['linux/arm/v6', 'linux/arm/v5'],
  'linux/s390x': ['linux/s390x'],
};

for (const [wanted, order] of Object.entries(ORDERS))
  test(`platformRank() orders images for ${wanted} as containerd does`, () => {
    const ranks = order.map((offered) => platformRank(platform(wanted), platform(offered)));
    assert.not(ranks.includes(undefined), `${ranks}`);
    assert.equal(
      ranks,
      ranks.toSorted((a, b) => Number(a) - Number(b)),
    );
    assert.is(ranks[0], 0);
    assert.is(new Set(ranks).size, ranks.length);
  });

const UNFIT: readonly (readonly [string, string])[] = [
  ['linux/amd64', 'linux/arm64'],
  ['linux/amd64', 'windows/amd64'],
  ['linux/amd64', 'linux/amd64/v2'],
  ['linux/amd64', 'unknown/unknown'],
  ['linux/arm/v6', 'linux/arm/v7'],
  ['linux/arm/v7', 'linux/arm64'],
  ['linux/arm64', 'linux/arm64/v9'],
];

for (const [wanted, offered] of UNFIT)
  test(`platformRank() has no use for ${offered} on ${wanted}`, () => {
    assert.is(platformRank(platform(wanted), platform(offered)), undefined);
  });

test('normalisePlatform() gives one name to names of the same thing', () => {
  assert.equal(normalisePlatform(platform('Linux/x86_64')), platform('linux/amd64'));
  assert.equal(normalisePlatform(platform('linux/aarch64/v8')), platform('linux/arm64'));
  assert.equal(normalisePlatform(platform('linux/armhf')), platform('linux/arm/v7'));
  assert.equal(normalisePlatform(platform('linux/armel')), platform('linux/arm/v6'));
  assert.equal(normalisePlatform(platform('linux/arm/6')), platform('linux/arm/v6'));
});

test.run();
