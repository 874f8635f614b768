// time limit: 1800 s
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { canRun } from '../support/real/components.ts';
import { kubeClusterSkipReason, startKubeCluster } from '../support/real/kube-cluster.ts';
import { testCredentials } from './kubernetes/credentials.ts';
import { testFailures } from './kubernetes/failures.ts';
import { Ledger } from './kubernetes/ledger.ts';
import { idsOf, leftovers } from './kubernetes/leftovers.ts';
import { testOptIn } from './kubernetes/opt-in.ts';
import { type ClusterSite, makeNamespace, OPTED_IN, startDeployment } from './kubernetes/site.ts';
import { testWarming } from './kubernetes/warming.ts';
import { testWebhook } from './kubernetes/webhook.ts';

const NODES = 3;
const LINK = { upBitsPerSecond: 200e6, downBitsPerSecond: 200e6 };
/** Names of suites, to run some of them: `SUITES=failures,credentials`. */
const suites = {
  'opt-in': testOptIn,
  credentials: testCredentials,
  warming: testWarming,
  failures: testFailures,
  webhook: testWebhook,
};

if (canRun(kubeClusterSkipReason())) {
  const ledger = new Ledger();
  // Leaving by exit() ends and removes everything; a signal alone would not.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));
  const startedMs = performance.now();
  const cluster = await startKubeCluster({
    nodes: NODES,
    link: LINK,
    registryBytesPerSecond: LINK.upBitsPerSecond / 8,
  });
  ledger.add(
    `a cluster of ${NODES} nodes; nodes and registry behind 200 Mbit/s each`,
    (performance.now() - startedMs) / 1000,
  );
  const site: ClusterSite = { cluster, ledger };
  const wanted = process.env.SUITES?.split(',');
  for (const [name, suite] of Object.entries(suites)) if (wanted?.includes(name) ?? true) suite(site);

  test('tear-down, with pods that run, leaves nothing: no process, namespace, mount or file', async () => {
    await makeNamespace(site, 'left');
    const image = await cluster.registry.push('left/app', [1_000_000]);
    await startDeployment(site, { name: 'app', namespace: 'left', image, labels: OPTED_IN });
    const ids = (await Promise.all(cluster.nodes.map(idsOf))).flat();
    assert.ok(ids.length >= 2 * NODES);
    const stoppingMs = performance.now();
    await cluster.stop();
    ledger.add('tear-down', (performance.now() - stoppingMs) / 1000);
    assert.equal(leftovers(ids), []);
  });
  test.after(() => ledger.print());
}

test.run();
