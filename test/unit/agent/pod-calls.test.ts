import { createConnection } from 'node:net';
import pino from 'pino';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { noticePod, readPullResults, removePod, syncPods } from '../../../shim/agent/control-client.ts';
import {
  type AgentStatus,
  POD_NOTICE_BYTES_MAX,
  type PodNotice,
  type PullResult,
} from '../../../shim/agent/control-protocol.ts';
import { createControlServer } from '../../../shim/agent/control-server.ts';
import { closeServer } from '../../../shim/agent/http-server.ts';
import { PullResults } from '../../../shim/agent/pull-results.ts';
import type { PullService } from '../../../shim/agent/pull-service.ts';
import { listenUnix } from '../../../shim/cri/unix-listener.ts';
import type { PolicySettings } from '../../../shim/policy/policy.ts';
import { PodWarming } from '../../../shim/warm/pod-warming.ts';
import { eventually, failureOf } from '../../support/pull-site.ts';
import { makeTemporaryRoot } from '../../support/real/temporary-root.ts';

const never = new AbortController().signal;
const policy: PolicySettings = {
  mode: 'opt-in',
  keyPrefix: 'k8s.aliyun.com',
  registries: { allow: [], deny: [] },
  namespaces: { allow: [], deny: [], optIn: [] },
  sandboxImages: [],
  agentImages: [],
};

test('pods are noticed, replaced and removed over the control socket', async () => {
  await using site = await startSite();
  await noticePod(site.socket, notice('a'), never);
  await noticePod(site.socket, notice('b'), never);
  assert.is(site.pods.podCount, 2);
  await syncPods(site.socket, { pods: [notice('c')] }, never);
  assert.is(site.pods.podCount, 1);
  await removePod(site.socket, { podUid: 'c', sandboxId: 'replaced' }, never);
  assert.is(site.pods.podCount, 1);
  await removePod(site.socket, { podUid: 'c', sandboxId: 'c-sandbox' }, never);
  assert.is(site.pods.podCount, 0);
});

test('a notice that is none, or too long, is refused and says why', async () => {
  await using site = await startSite();
  const wrong: [unknown, RegExp][] = [
    [{ ...notice('a'), podUid: 7 }, /"podUid" of a pod/],
    [{ ...notice('a'), labels: { key: 1 } }, /"labels" of a pod/],
    [{ ...notice('a'), warm: 'yes' }, /"warm" of a pod/],
    [[], /an object wanted/],
    [{ ...notice('a'), annotations: { long: 'x'.repeat(POD_NOTICE_BYTES_MAX) } }, /over 262144 bytes/],
  ];
  for (const [body, message] of wrong)
    assert.match((await failureOf(noticePod(site.socket, body as PodNotice, never))).message, message);
  assert.is(site.pods.podCount, 0);
});

test('a reader of results is told the recent ones, then each as it ends', async () => {
  await using site = await startSite();
  site.results.publish(result('before'));
  const stop = new AbortController();
  const seen: string[] = [];
  const reading = (async () => {
    for await (const { image } of readPullResults(site.socket, stop.signal)) seen.push(image);
  })().catch(() => undefined);
  await eventually(
    () => seen.length,
    (count) => count === 1,
  );
  site.results.publish(result('after'));
  await eventually(
    () => seen.length,
    (count) => count === 2,
  );
  assert.equal(seen, ['before', 'after']);
  stop.abort();
  await reading;
  assert.is(
    await eventually(
      () => site.results.listenerCount,
      (count) => count === 0,
    ),
    0,
  );
});

test('a reader that does not read is cut off; further readers than eight are refused', async () => {
  await using site = await startSite();
  const silent = createConnection(site.socket);
  silent.pause();
  silent.write('GET /v1/pods/results HTTP/1.1\r\nHost: agent\r\n\r\n');
  await eventually(
    () => site.results.listenerCount,
    (count) => count === 1,
  );
  let published = 0;
  while (site.results.listenerCount === 1 && published < 100_000) {
    for (let each = 0; each < 100; each++) site.results.publish(result('x'.repeat(200)));
    published += 100;
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.is(site.results.listenerCount, 0, `after ${published} results`);
  silent.destroy();

  const stop = new AbortController();
  const readers = Array.from({ length: 8 }, () => readPullResults(site.socket, stop.signal).next());
  await Promise.all(readers);
  const ninth = readPullResults(site.socket, stop.signal).next();
  assert.match((await failureOf(ninth)).message, /8 readers/);
  stop.abort();
});

test.run();

async function startSite() {
  const root = makeTemporaryRoot('ctl');
  const socket = root.socketPath('control.sock');
  const pods = new PodWarming({ policy: () => policy, log: pino({ enabled: false }), nowMs: () => 0 });
  const results = new PullResults();
  // Neither pulls nor status are asked for here.
  const pulls = undefined as unknown as PullService;
  const status = undefined as unknown as () => AgentStatus;
  const server = createControlServer({ pulls, pods, results, status });
  await listenUnix(server, socket);
  return {
    socket,
    pods,
    results,
    [Symbol.asyncDispose]: async () => {
      await closeServer(server);
      pods.close();
      root.remove();
    },
  };
}

function notice(podUid: string): PodNotice {
  return {
    podUid,
    namespace: 'default',
    name: podUid,
    sandboxId: `${podUid}-sandbox`,
    labels: {},
    annotations: {},
    warm: true,
  };
}

function result(image: string): PullResult {
  const bytes = { origin: 0, peer: 0, cache: 0 };
  return { image, accelerated: true, reason: 'accelerated', seconds: 1, bytes, endedAtMs: Date.now() };
}
