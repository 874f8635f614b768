import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  type ClusterSite,
  createPod,
  makeNamespace,
  OPTED_IN,
  removeNamespace,
  setPassword,
  startDeployment,
  startPod,
  waitingReason,
} from './site.ts';

const LAYERS_BYTES = [5_000_000];
const REFUSED = /^(ErrImagePull|ImagePullBackOff)$/;

/** The registry's word counts for every pull, whatever bytes nodes have. */
export function testCredentials(site: ClusterSite): void {
  const { cluster, ledger } = site;

  test('a pod with a wrong password is refused although its node and its peers hold every byte', async () => {
    await makeNamespace(site, 'owners');
    const image = await cluster.registry.push('secret-app', LAYERS_BYTES);
    await startDeployment(site, { name: 'app', namespace: 'owners', image, labels: OPTED_IN });

    await makeNamespace(site, 'strangers');
    await setPassword(site, 'strangers', 'guessed');
    const pod = { namespace: 'strangers', image, labels: OPTED_IN, pullPolicy: 'Always' as const };
    const [node] = cluster.nodes;
    assert.ok(node);
    await createPod(site, { ...pod, name: 'wrong-password', node });
    const reason = await waitingReason(site, { ...pod, name: 'wrong-password' }, REFUSED);
    assert.match(reason, /401|[Uu]nauthorized|authentication|credentials/);
    await createPod(site, { ...pod, name: 'no-secret', node, pullSecrets: [] });
    await waitingReason(site, { ...pod, name: 'no-secret' }, REFUSED);

    await setPassword(site, 'strangers', cluster.registry.password);
    const seconds = await startPod(site, { ...pod, name: 'right-password', node });
    ledger.add('the right password, all bytes on the node', seconds);
    await removeNamespace(site, 'strangers');
    await removeNamespace(site, 'owners');
  });

  test('a rotated password works at once, and the old one no more', async () => {
    await makeNamespace(site, 'rotating');
    const image = await cluster.registry.push('rotated-app', LAYERS_BYTES);
    const pod = { namespace: 'rotating', image, labels: OPTED_IN, pullPolicy: 'Always' as const };
    const [node] = cluster.nodes;
    assert.ok(node);
    await startPod(site, { ...pod, name: 'before', node });

    cluster.registry.password = 'second';
    await createPod(site, { ...pod, name: 'old-password', node });
    await waitingReason(site, { ...pod, name: 'old-password' }, REFUSED);
    await setPassword(site, 'rotating', 'second');
    ledger.add(
      'first pod after a password was rotated',
      await startPod(site, { ...pod, name: 'after', node }),
    );
    await removeNamespace(site, 'rotating');
  });
}
