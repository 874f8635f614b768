// time limit: 120 s
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { AgentLink } from '../../../nri/agent-link.ts';
import type { PodNotice, PullResult } from '../../../shim/agent/control-protocol.ts';
import { type PodListener, startPodListener } from '../../support/nri-agent.ts';
import { eventually } from '../../support/pull-site.ts';

const test = suite('agent link');

const notice = (podUid: string): PodNotice => ({
  podUid,
  namespace: 'team',
  name: podUid,
  labels: {},
  annotations: {},
  warm: true,
});

interface Running extends AsyncDisposable {
  readonly link: AgentLink;
  readonly results: PullResult[];
  readonly log: string[];
  pods: PodNotice[];
}

function runLink(socketPath: string): Running {
  const stop = new AbortController();
  const results: PullResult[] = [];
  const log: string[] = [];
  const link = new AgentLink({
    socketPath,
    snapshot: () => running.pods,
    onResult: (result) => results.push(result),
    log: (line) => log.push(line),
  });
  const ended = link.run(stop.signal);
  const running: Running = {
    link,
    results,
    log,
    pods: [notice('running')],
    [Symbol.asyncDispose]: async () => {
      stop.abort();
      await ended;
    },
  };
  return running;
}

async function connected(running: Running, agent: PodListener, count = 1): Promise<void> {
  await agent.waitFor('/v1/pods/sync', count);
  await eventually(
    () => running.link.isConnected,
    (isConnected) => isConnected,
  );
}

test('a connection begins with all pods, and messages follow in order', async () => {
  using agent = await startPodListener();
  await using running = runLink(agent.socketPath);
  await connected(running, agent);
  running.link.tell({ kind: 'started', notice: notice('a') });
  running.link.tell({ kind: 'removed', podUid: 'a' });
  await agent.waitFor('/v1/pods/removed', 1);
  assert.equal(agent.told, [
    { path: '/v1/pods/sync', body: { pods: [notice('running')] } },
    { path: '/v1/pods', body: notice('a') },
    { path: '/v1/pods/removed', body: { podUid: 'a' } },
  ]);
});

test('results arrive while messages go out', async () => {
  using agent = await startPodListener();
  await using running = runLink(agent.socketPath);
  agent.tellResult({ image: 'before' });
  await connected(running, agent);
  agent.tellResult({ image: 'after' });
  const found = await eventually(
    () => running.results.map(({ image }) => image),
    (images) => images.length === 2,
  );
  assert.equal(found, ['before', 'after']);
});

test('an agent that starts later, or again, is told all pods', async () => {
  let socketPath = '';
  {
    using gone = await startPodListener();
    socketPath = gone.socketPath;
  }
  await using running = runLink(socketPath);
  running.link.tell({ kind: 'started', notice: notice('nobody listens') });
  await eventually(
    () => running.log,
    (log) => log.length > 0,
  );
  assert.match(
    running.log[0] ?? '',
    /^Cannot reach the agent at ".+": found (ENOENT|ECONNREFUSED), wanted an answer$/,
  );
  using agent = await startPodListener();
  running.link.setSocketPath(agent.socketPath);
  await connected(running, agent);
  agent.disconnect();
  await connected(running, agent, 2);
  assert.is(agent.at('/v1/pods').length, 0);
  const repeated = running.log.filter((line, index) => line === running.log[index - 1]);
  assert.equal(repeated, [], 'nothing is logged twice in a row');
});

test('a message that the agent refuses is left out, and the next one told', async () => {
  using agent = await startPodListener();
  await using running = runLink(agent.socketPath);
  await connected(running, agent);
  agent.answerWith(400);
  running.link.tell({ kind: 'started', notice: notice('refused') });
  await agent.waitFor('/v1/pods', 1);
  await eventually(
    () => running.log,
    (log) => log.some((line) => line.includes('400')),
  );
  agent.answerWith(200);
  running.link.tell({ kind: 'started', notice: notice('taken') });
  await agent.waitFor('/v1/pods', 2);
  assert.is(agent.at('/v1/pods/sync').length, 1, 'the connection has stayed');
});

test('a slow agent costs a bounded queue: all pods are told instead of what was lost', async () => {
  using agent = await startPodListener();
  await using running = runLink(agent.socketPath);
  await connected(running, agent);
  agent.freeze();
  for (let index = 0; index < 1000; index++)
    running.link.tell({ kind: 'started', notice: notice(`${index}`) });
  running.pods = [notice('all')];
  agent.thaw();
  await agent.waitFor('/v1/pods/sync', 2);
  assert.ok(agent.at('/v1/pods').length <= 1, 'only what was on its way');
  assert.ok(running.log.some((line) => line.includes('the oldest message is dropped')));
});

test.run();
