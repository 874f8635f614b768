import type { V1Secret } from '@kubernetes/client-node';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { DEFAULT_P2P_HOST_RULES } from '../../../shim/base/p2p-address.ts';
import { annotationKeys } from '../../../webhook/annotation-keys.ts';
import { toP2pDockerConfig } from '../../../webhook/docker-config.ts';
import { type CopySituation, decideCopy } from '../../../webhook/secret-copy.ts';
import { p2pSecretName, sourceSecretName } from '../../../webhook/secret-names.ts';

const HOST = 'test-registry-vpc.cn-hangzhou.cr.aliyuncs.com';
const P2P_HOST = 'test-registry-vpc.distributed.cn-hangzhou.cr.aliyuncs.com:65001';
const CONFIG_JSON = 'kubernetes.io/dockerconfigjson';
const settings = { keys: annotationKeys('k8s.aliyun.com'), hostRules: DEFAULT_P2P_HOST_RULES };

const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64');
const decode = (text: string | undefined) => JSON.parse(Buffer.from(text ?? '', 'base64').toString());

function makeSource(change: Partial<V1Secret> = {}): V1Secret {
  return {
    type: CONFIG_JSON,
    metadata: { name: 'reg', namespace: 'one', uid: 'u1', labels: { own: 'label' } },
    data: { '.dockerconfigjson': encode({ auths: { [HOST]: { username: 'u', password: 'p' } } }) },
    ...change,
  };
}

function decide(change: Partial<CopySituation>) {
  const situation = {
    copyName: 'acr-credential-reg-p2p',
    sourceName: 'reg',
    source: makeSource(),
    copy: undefined,
    isNamed: true,
  };
  return decideCopy({ ...situation, ...change }, settings);
}

function makeCopyOf(source = makeSource()): V1Secret {
  const action = decide({ source });
  assert.ok(action.kind === 'create');
  const { metadata } = action.secret;
  return { ...action.secret, metadata: { ...metadata, uid: 'c1', resourceVersion: '7' } };
}

const convert = (value: unknown, type = CONFIG_JSON) => {
  const text = toP2pDockerConfig(type, JSON.stringify(value), DEFAULT_P2P_HOST_RULES);
  return text === undefined ? undefined : JSON.parse(text);
};

test('p2pSecretName() and sourceSecretName() are inverse, within the longest name', () => {
  assert.is(p2pSecretName('test-registry'), 'acr-credential-test-registry-p2p');
  assert.is(sourceSecretName('acr-credential-test-registry-p2p'), 'test-registry');
  assert.is(p2pSecretName('a'.repeat(234))?.length, 253);
  assert.is(p2pSecretName('a'.repeat(235)), undefined);
  for (const name of ['acr-credential--p2p', 'acr-credential-p2p', 'a-p2p', 'acr-credential-a', ''])
    assert.is(sourceSecretName(name), undefined, name);
});

test('toP2pDockerConfig() changes hosts alone, in both types', () => {
  const entry = { username: 'u', password: 'p', email: 'e', auth: 'dTpw', other: [1] };
  assert.equal(convert({ auths: { [HOST]: entry } }), { auths: { [P2P_HOST]: entry } });
  assert.equal(convert({ [HOST]: entry }, 'kubernetes.io/dockercfg'), { [P2P_HOST]: entry });
});

test('toP2pDockerConfig() keeps scheme and path, and takes the wildcards that kubelet takes', () => {
  const auths = {
    [`https://${HOST}`]: { auth: '1' },
    [`https://${HOST}/v2/`]: { auth: '2' },
    [`${HOST}/team`]: { auth: '3' },
    '*.cn-hangzhou.cr.aliyuncs.com': { auth: '4' },
  };
  assert.equal(convert({ auths }), {
    auths: {
      [`https://${P2P_HOST}`]: { auth: '1' },
      [`https://${P2P_HOST}/v2/`]: { auth: '2' },
      [`${P2P_HOST}/team`]: { auth: '3' },
      '*.distributed.cn-hangzhou.cr.aliyuncs.com:65001': { auth: '4' },
    },
  });
});

test('toP2pDockerConfig() leaves out hosts without another form, and keeps those that have it already', () => {
  const auths = { 'ghcr.io': { auth: 'x' }, [`${HOST}:5000`]: { auth: 'x' }, [HOST]: { auth: 'a' } };
  assert.equal(convert({ auths }), { auths: { [P2P_HOST]: { auth: 'a' } } });
  const both = { [P2P_HOST]: { auth: 'given' }, [HOST]: { auth: 'mapped' } };
  assert.equal(convert({ auths: both }), { auths: { [P2P_HOST]: { auth: 'given' } } });
  assert.equal(convert({ auths: { 'ghcr.io': { auth: 'x' } } }), { auths: {} });
  assert.equal(convert({}), { auths: {} });
});

test('toP2pDockerConfig() makes nothing of what is no pull secret', () => {
  for (const text of ['', 'x', 'null', '[]', '7', '{"auths":[]}', '{"auths":"x"}', '{"auths":null'])
    assert.is(toP2pDockerConfig(CONFIG_JSON, text, DEFAULT_P2P_HOST_RULES), undefined, text);
  assert.equal(convert({ auths: { [HOST]: 'text', [`https://${HOST}`]: null } }), { auths: {} });
  const hostile = '{"auths":{"__proto__":{"auth":"x"},"":{"auth":"x"},"://":{"auth":"x"},"/":{"auth":"x"}}}';
  assert.is(toP2pDockerConfig(CONFIG_JSON, hostile, DEFAULT_P2P_HOST_RULES), '{"auths":{}}');
});

test('decideCopy() creates a copy with both marks, owned by its source', () => {
  const { metadata, data, type } = makeCopyOf();
  assert.is(type, CONFIG_JSON);
  assert.is(metadata?.name, 'acr-credential-reg-p2p');
  assert.is(metadata?.namespace, 'one');
  assert.equal(metadata?.labels, { 'app.kubernetes.io/managed-by': 'shoal-webhook' });
  assert.equal(metadata?.annotations, { 'k8s.aliyun.com/p2p-source': 'reg' });
  assert.equal(metadata?.ownerReferences, [{ apiVersion: 'v1', kind: 'Secret', name: 'reg', uid: 'u1' }]);
  assert.equal(decode(data?.['.dockerconfigjson']), {
    auths: { [P2P_HOST]: { username: 'u', password: 'p' } },
  });
});

test('decideCopy() does nothing about a copy that is as it should be', () => {
  assert.equal(decide({ copy: makeCopyOf() }), { kind: 'nothing' });
});

test('decideCopy() updates the very copy it has seen when the source changes, and keeps what others put on it', () => {
  const seen = makeCopyOf();
  const copy = { ...seen, metadata: { ...seen.metadata, labels: { ...seen.metadata?.labels, theirs: 'x' } } };
  const rotated = { '.dockerconfigjson': encode({ auths: { [HOST]: { password: 'new' } } }) };
  const changes = [
    makeSource({ data: rotated }),
    makeSource({ metadata: { name: 'reg', namespace: 'one', uid: 'made-again' } }),
  ];
  for (const source of changes) {
    const action = decide({ source, copy });
    assert.ok(action.kind === 'update');
    assert.is(action.secret.metadata?.resourceVersion, '7');
    assert.is(action.secret.metadata?.labels?.theirs, 'x');
    assert.is(action.secret.metadata?.ownerReferences?.[0]?.uid, source.metadata?.uid);
  }
  const tampered = { ...copy, data: { ...copy.data, more: 'eA==' } };
  assert.is(decide({ copy: tampered }).kind, 'update');
});

test('decideCopy() removes its copy with the source, when nobody names it, or when it has to be another type', () => {
  const copy = makeCopyOf();
  const going = makeSource({ metadata: { name: 'reg', deletionTimestamp: new Date(0) } });
  const situations: Partial<CopySituation>[] = [
    { source: undefined },
    { source: going },
    { isNamed: false },
    { source: makeSource({ type: 'Opaque' }) },
    { source: makeSource({ data: { '.dockerconfigjson': 'AAAA' } }) },
    { source: makeSource({ type: 'kubernetes.io/dockercfg', data: { '.dockercfg': encode({}) } }) },
  ];
  for (const situation of situations)
    assert.equal(decide({ copy, ...situation }), { kind: 'delete', copy }, JSON.stringify(situation));
  for (const situation of situations.slice(0, 3)) assert.equal(decide(situation), { kind: 'nothing' });
  const terminating = { ...copy, metadata: { ...copy.metadata, deletionTimestamp: new Date(0) } };
  assert.equal(decide({ copy: terminating, source: undefined }), { kind: 'nothing' });
});

test('decideCopy() never touches a secret that it did not make', () => {
  const ours = makeCopyOf();
  const theirs: V1Secret[] = [
    { ...ours, metadata: { ...ours.metadata, labels: {} } },
    { ...ours, metadata: { ...ours.metadata, annotations: {} } },
    { ...ours, metadata: { ...ours.metadata, annotations: { 'k8s.aliyun.com/p2p-source': 'another' } } },
    { metadata: { name: 'acr-credential-reg-p2p' }, type: 'Opaque' },
  ];
  for (const copy of theirs) {
    const conflict = decide({ copy });
    assert.ok(conflict.kind === 'tell' && conflict.problem === 'NameTaken' && conflict.about === copy);
    for (const change of [{ source: undefined }, { isNamed: false }])
      assert.equal(decide({ copy, ...change }), { kind: 'nothing' });
  }
});

test('decideCopy() tells why a secret that pods name gets no copy', () => {
  const problemOf = (source: V1Secret) => {
    const action = decide({ source });
    return action.kind === 'tell' && action.about === source ? action.problem : action.kind;
  };
  assert.is(problemOf(makeSource({ type: 'Opaque' })), 'NotARegistrySecret');
  assert.is(problemOf(makeSource({ data: {} })), 'MalformedSecret');
  assert.is(problemOf(makeSource({ data: { '.dockerconfigjson': encode([]) } })), 'MalformedSecret');
  assert.is(problemOf(makeSource({ data: { '.dockerconfigjson': '%%%' } })), 'MalformedSecret');
});

test.run();
