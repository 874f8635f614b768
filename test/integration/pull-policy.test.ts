// time limit: 90 s
import { writeFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { PolicyReason } from '../../shim/policy/policy.ts';
import { type Agent, startAgent } from '../support/agent.ts';
import { buildImage } from '../support/images/build-image.ts';
import { type OriginSite, startOriginSite } from '../support/pull-site.ts';
import { canRun, containerdSkipReason } from '../support/real/components.ts';
import { type Containerd, startContainerd } from '../support/real/containerd.ts';
import { pull, runCrictl } from '../support/real/crictl.ts';
import { testedVersion } from '../support/real/import-site.ts';
import { makeTemporaryRoot } from '../support/real/temporary-root.ts';

const KEY = 'k8s.aliyun.com/image-accelerate-mode';

/** What is said about a pull, and what has to come of it. */
interface Case {
  readonly namespace?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly imageAnnotations?: Readonly<Record<string, string>>;
  readonly repository?: string;
  readonly decides: readonly ['accelerate' | 'pass', PolicyReason];
}

const OPT_IN: Readonly<Record<string, Case>> = {
  'a pod that says nothing is passed on': { namespace: 'default', decides: ['pass', 'not-opted-in'] },
  'a pull without a pod is passed on': { decides: ['pass', 'not-opted-in'] },
  'a pod label opts in': {
    namespace: 'default',
    labels: { [KEY]: 'p2p' },
    decides: ['accelerate', 'opted-in'],
  },
  'a pod annotation opts in': {
    namespace: 'default',
    annotations: { [KEY]: 'p2p' },
    decides: ['accelerate', 'opted-in'],
  },
  'an annotation of the image opts in, as in crictl pull --annotation': {
    imageAnnotations: { [KEY]: 'p2p' },
    decides: ['accelerate', 'opted-in'],
  },
  'a namespace of the list opts in': { namespace: 'fast', decides: ['accelerate', 'opted-in'] },
  'another value is no opt-in': {
    namespace: 'default',
    labels: { [KEY]: 'yes' },
    decides: ['pass', 'not-opted-in'],
  },
  'off on the pod beats its namespace and its annotation': {
    namespace: 'fast',
    labels: { [KEY]: 'off' },
    annotations: { [KEY]: 'p2p' },
    decides: ['pass', 'opted-out'],
  },
  'the sandbox image is passed on': {
    namespace: 'fast',
    repository: 'team/pause',
    decides: ['pass', 'sandbox-image'],
  },
  'a namespace of the deny list is passed on': {
    namespace: 'slow',
    labels: { [KEY]: 'p2p' },
    decides: ['pass', 'namespace-denied'],
  },
};

let origin: OriginSite;
let containerd: Containerd;
let agent: Agent;

if (canRun(containerdSkipReason(testedVersion, 'crictl-go'))) {
  test.before(async () => {
    origin = await startOriginSite();
    containerd = await startContainerd({ version: testedVersion });
    const namespaces = { optIn: ['fast'], deny: ['slow'] };
    agent = await agentWith({ mode: 'opt-in', namespaces });
  });
  test.after(async () => {
    await agent.stop();
    await containerd.stop();
    await origin[Symbol.asyncDispose]();
  });

  for (const [name, each] of Object.entries(OPT_IN)) test(`opt-in: ${name}`, () => check(agent, each));

  test('all: every pull is accelerated, but not one whose pod says off', async () => {
    await using own = await agentWith({ mode: 'all' });
    await check(own, { decides: ['accelerate', 'mode-all'] });
    await check(own, {
      namespace: 'default',
      annotations: { [KEY]: 'off' },
      decides: ['pass', 'opted-out'],
    });
  });

  test('off: no pull is accelerated', async () => {
    await using own = await agentWith({ mode: 'off' });
    await check(own, { namespace: 'default', labels: { [KEY]: 'p2p' }, decides: ['pass', 'mode-off'] });
  });

  test('a registry of the deny list is passed on', async () => {
    await using own = await agentWith({ mode: 'all', registries: { deny: [origin.gate.host] } });
    await check(own, { decides: ['pass', 'registry-denied'] });
  });

  test('observe: everything is passed on, and the log says what would have been', async () => {
    await using own = await agentWith({ mode: 'observe' });
    await check(own, { namespace: 'default', labels: { [KEY]: 'p2p' }, decides: ['pass', 'opted-in'] }, true);
    await check(own, { namespace: 'default', decides: ['pass', 'not-opted-in'] }, false);
  });
}

test.run();

function agentWith(policy: object): Promise<Agent> {
  const settings = { policy, log: { level: 'debug' } };
  return startAgent({ name: 'policy', containerd: containerd.socket, settings });
}

async function check(through: Agent, each: Case, wouldAccelerate?: boolean): Promise<void> {
  const [action, reason] = each.decides;
  const repository = each.repository ?? 'team/app';
  using image = await buildImage({ layers: [{ entries: [{ name: 'a', content: JSON.stringify(each) }] }] });
  const { reference } = await origin.push(image, repository);
  using folder = makeTemporaryRoot('pod');
  const before = logLines(through).length;
  const id = await pull({ endpoint: through.criSocket }, reference, {
    ...(each.imageAnnotations && { annotations: each.imageAnnotations }),
    ...(each.namespace !== undefined && { podConfigPath: writePod(folder.path, each) }),
  });
  assert.is(id, image.config.digest);
  const said = logLines(through).slice(before);
  const decision = said.find((line) => line.image === reference && line.reason !== undefined);
  assert.is(decision?.reason, reason);
  if (wouldAccelerate === undefined) assert.is(decision?.action, action);
  else assert.is(decision?.wouldAccelerate, wouldAccelerate);
  const pulled = said.some((line) => line.message === 'pulled' && line.image === reference);
  assert.is(pulled, action === 'accelerate', 'who has pulled');
  await runCrictl({ endpoint: through.criSocket }, 'rmi', reference);
}

function writePod(folder: string, { namespace, labels = {}, annotations = {} }: Case): string {
  const path = `${folder}/pod.json`;
  const metadata = { name: 'pod', uid: 'uid', namespace };
  writeFileSync(path, JSON.stringify({ metadata, labels, annotations }));
  return path;
}

interface LogLine {
  readonly message: string;
  readonly image?: string;
  readonly reason?: string;
  readonly action?: string;
  readonly wouldAccelerate?: boolean;
}

function logLines(of: Agent): LogLine[] {
  const lines = of.log().split('\n');
  return lines.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line) as LogLine);
}
