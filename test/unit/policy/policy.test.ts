import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  decide,
  type OptInSource,
  POLICY_REASONS,
  type PolicyInput,
  type PolicyMode,
  type PolicyReason,
  type PolicySettings,
} from '../../../shim/policy/policy.ts';

const KEY = 'k8s.aliyun.com/image-accelerate-mode';

const SETTINGS: PolicySettings = {
  mode: 'opt-in',
  keyPrefix: 'k8s.aliyun.com',
  registries: { allow: [], deny: [] },
  namespaces: { allow: [], deny: [], optIn: [] },
  sandboxImages: ['registry.k8s.io/pause'],
  agentImages: ['ghcr.io/shoal/*'],
};

const INPUT: PolicyInput = {
  registry: 'registry.test:5000',
  repository: 'team/app',
  namespace: 'shop',
  podLabels: new Map(),
  podAnnotations: new Map(),
  imageAnnotations: new Map(),
};

type Places = {
  readonly label?: string;
  readonly annotation?: string;
  readonly image?: string;
  readonly namespace?: boolean;
};

function marked(places: Places): PolicyInput {
  const map = (value: string | undefined) => new Map(value === undefined ? [] : [[KEY, value]]);
  return {
    ...INPUT,
    podLabels: map(places.label),
    podAnnotations: map(places.annotation),
    imageAnnotations: map(places.image),
  };
}

function settingsOf(mode: PolicyMode, places: Places): PolicySettings {
  return {
    ...SETTINGS,
    mode,
    namespaces: { ...SETTINGS.namespaces, optIn: places.namespace ? ['shop'] : [] },
  };
}

/** The rules once more, written for one purpose: the four marks and the mode, nothing else set. */
function expected(mode: PolicyMode, places: Places): { action: string; reason: PolicyReason } {
  const values = [places.label, places.annotation, places.image];
  const optedIn = values.includes('p2p') || places.namespace === true;
  let reason: PolicyReason = optedIn ? 'opted-in' : 'not-opted-in';
  if (mode === 'all') reason = 'mode-all';
  if (mode === 'off') reason = 'mode-off';
  if (values.includes('off')) reason = 'opted-out';
  const would = reason === 'opted-in' || reason === 'mode-all';
  return { action: would && mode !== 'observe' ? 'accelerate' : 'pass', reason };
}

test('decide() holds for every mode and every combination of marks', () => {
  const values = [undefined, 'p2p', 'off', 'on', '', 'P2P'];
  let cases = 0;
  for (const mode of ['opt-in', 'all', 'off', 'observe'] as const)
    for (const label of values)
      for (const annotation of values)
        for (const image of values)
          for (const namespace of [false, true]) {
            const places: Places = {
              namespace,
              ...(label === undefined ? {} : { label }),
              ...(annotation === undefined ? {} : { annotation }),
              ...(image === undefined ? {} : { image }),
            };
            const { action, reason } = decide(marked(places), settingsOf(mode, places));
            assert.equal({ action, reason }, expected(mode, places), JSON.stringify({ mode, ...places }));
            cases += 1;
          }
  assert.is(cases, 4 * 6 ** 3 * 2);
});

test('decide() names the most specific place of an opt-in', () => {
  const cases: readonly [Places, OptInSource][] = [
    [{ label: 'p2p', annotation: 'p2p', image: 'p2p', namespace: true }, 'pod-label'],
    [{ label: 'no', annotation: 'p2p', image: 'p2p', namespace: true }, 'pod-annotation'],
    [{ image: 'p2p', namespace: true }, 'image-annotation'],
    [{ image: 'no', namespace: true }, 'namespace'],
  ];
  for (const [places, source] of cases) {
    assert.is(decide(marked(places), settingsOf('opt-in', places)).optedInBy, source);
    assert.is(decide(marked(places), settingsOf('all', places)).optedInBy, source);
  }
});

test('decide() in mode observe passes and reports what would have been done', () => {
  const optedIn = decide(marked({ label: 'p2p' }), settingsOf('observe', {}));
  assert.equal(optedIn, {
    action: 'pass',
    reason: 'opted-in',
    optedInBy: 'pod-label',
    wouldAccelerate: true,
  });
  assert.is(decide(INPUT, settingsOf('observe', {})).wouldAccelerate, false);
  assert.is(decide(INPUT, settingsOf('all', {})).wouldAccelerate, undefined);
});

const ALL: PolicySettings = { ...SETTINGS, mode: 'all' };
const lists = (allow: readonly string[], deny: readonly string[]) => ({ allow, deny });

const EXCLUSIONS: readonly [
  what: string,
  input: Partial<PolicyInput>,
  settings: Partial<PolicySettings>,
  PolicyReason,
][] = [
  ['the pause image', { registry: 'registry.k8s.io', repository: 'pause' }, {}, 'sandbox-image'],
  [
    'an image that only begins like pause',
    { registry: 'registry.k8s.io', repository: 'pause-2' },
    {},
    'mode-all',
  ],
  ['another registry’s pause', { registry: 'x.test', repository: 'pause' }, {}, 'mode-all'],
  ['an own image', { registry: 'ghcr.io', repository: 'shoal/agent' }, {}, 'agent-image'],
  ['a denied registry', {}, { registries: lists([], ['registry.test:5000']) }, 'registry-denied'],
  ['a denied registry without its port', {}, { registries: lists([], ['registry.test']) }, 'mode-all'],
  ['a denied registry by glob', {}, { registries: lists([], ['*.test:*']) }, 'registry-denied'],
  ['deny before allow', {}, { registries: lists(['*'], ['registry.test:5000']) }, 'registry-denied'],
  [
    'a registry that is not allowed',
    {},
    { registries: lists(['docker.io', 'quay.io'], []) },
    'registry-not-allowed',
  ],
  ['an allowed registry', {}, { registries: lists(['docker.io', 'registry.*:5000'], []) }, 'mode-all'],
  ['a denied namespace', {}, { namespaces: { ...lists([], ['sh*']), optIn: [] } }, 'namespace-denied'],
  [
    'a namespace that is not allowed',
    {},
    { namespaces: { ...lists(['prod-*'], []), optIn: [] } },
    'namespace-not-allowed',
  ],
  ['an allowed namespace', {}, { namespaces: { ...lists(['s*p'], []), optIn: [] } }, 'mode-all'],
  [
    'no pod, allow list set',
    { namespace: undefined },
    { namespaces: { ...lists(['*'], []), optIn: [] } },
    'namespace-not-allowed',
  ],
  [
    'no pod, deny list set',
    { namespace: undefined },
    { namespaces: { ...lists([], ['*']), optIn: [] } },
    'mode-all',
  ],
];

for (const [what, input, settings, reason] of EXCLUSIONS) {
  test(`decide() says ${reason} for ${what}`, () => {
    const decision = decide({ ...INPUT, ...input }, { ...ALL, ...settings });
    assert.is(decision.reason, reason);
    assert.is(decision.action, reason === 'mode-all' ? 'accelerate' : 'pass');
  });
}

test('decide() lets no opt-in overrule an exclusion', () => {
  const input = { ...marked({ label: 'p2p' }), registry: 'registry.k8s.io', repository: 'pause' };
  assert.is(decide(input, SETTINGS).action, 'pass');
  const denied = { ...SETTINGS, registries: lists([], ['*']) };
  assert.is(decide(marked({ label: 'p2p' }), denied).action, 'pass');
});

test('decide() reads the key under the configured prefix alone', () => {
  const settings = { ...SETTINGS, keyPrefix: 'shoal.dev' };
  assert.is(decide(marked({ label: 'p2p' }), settings).reason, 'not-opted-in');
  const own = { ...INPUT, podLabels: new Map([['shoal.dev/image-accelerate-mode', 'p2p']]) };
  assert.is(decide(own, settings).reason, 'opted-in');
});

test('decide() matches globs as a whole and without backtracking', () => {
  const denied = (pattern: string, registry: string) =>
    decide({ ...INPUT, registry }, { ...ALL, registries: lists([], [pattern]) }).reason === 'registry-denied';
  for (const [pattern, name, wanted] of [
    ['a', 'a', true],
    ['a', 'ab', false],
    ['a*', 'a', true],
    ['*a', 'ba', true],
    ['*a*', 'bab', true],
    ['a*a', 'a', false],
    ['a*b*c', 'a-b-c', true],
    ['a*b*c', 'a-c-b', false],
    ['*', '', true],
    ['a.c', 'abc', false],
    ['', 'a', false],
  ] as const) {
    assert.is(denied(pattern, name), wanted, `${pattern} on ${name}`);
  }
  const startMs = performance.now();
  assert.is(denied(`${'a*'.repeat(500)}b`, 'a'.repeat(5000)), false);
  assert.ok(performance.now() - startMs < 1000);
});

test('decide() gives only reasons of the closed set', () => {
  const seen = new Set(
    EXCLUSIONS.map(([, input, settings]) => decide({ ...INPUT, ...input }, { ...ALL, ...settings }).reason),
  );
  for (const reason of seen) assert.ok(POLICY_REASONS.includes(reason));
});

test.run();
