import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { policySettingsOf } from '../../../shim/agent/policy-settings.ts';
import { loadConfig } from '../../../shim/config/load-config.ts';
import { decide } from '../../../shim/policy/policy.ts';

const policyOf = (yaml: string) => policySettingsOf(loadConfig(yaml, 'test.yaml', {}));

test('policySettingsOf() takes mode, prefix and lists from the configuration', () => {
  const policy = policyOf(
    'policy: {mode: observe, keyPrefix: example.com, registries: {deny: [a.test]}, namespaces: {optIn: [fast]}}',
  );
  const { mode, keyPrefix, registries, namespaces, agentImages } = policy;
  assert.equal([mode, keyPrefix, agentImages], ['observe', 'example.com', []]);
  assert.equal(registries, { allow: [], deny: ['a.test'] });
  assert.equal(namespaces, { optIn: ['fast'], allow: [], deny: [] });
});

for (const [yaml, repository] of [
  ['policy: {ownImage: "registry.test/shoal/agent:v1"}', 'registry.test/shoal/agent'],
  ['p2p: {v2: {image: shoal, imageTag: v1}}', 'docker.io/library/shoal'],
  ['p2p: {v2: {image: "registry.test:5000/shoal"}}', 'registry.test:5000/shoal'],
  ['{policy: {ownImage: mine/agent}, p2p: {v2: {image: other}}}', 'docker.io/mine/agent'],
] as const) {
  test(`policySettingsOf() knows the agent's own image from ${yaml}`, () => {
    assert.equal(policyOf(yaml).agentImages, [repository]);
  });
}

test('policySettingsOf() excludes sandbox images of any registry', () => {
  const policy = policyOf('policy: {mode: all}');
  const nobody = { namespace: undefined, podLabels: new Map(), podAnnotations: new Map() };
  const reasonFor = (registry: string, repository: string) =>
    decide({ ...nobody, imageAnnotations: new Map(), registry, repository }, policy).reason;
  assert.is(reasonFor('registry.k8s.io', 'pause'), 'sandbox-image');
  assert.is(reasonFor('mirror.test:5000', 'google_containers/pause'), 'sandbox-image');
  assert.is(reasonFor('registry.k8s.io', 'unpause'), 'mode-all');
});

test.run();
