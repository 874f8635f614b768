import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ContainerdClient } from '../../shim/containerd/containerd-client.ts';
import { Lease } from '../../shim/containerd/lease.ts';
import { canRun, containerdSkipReason } from '../support/real/components.ts';
import { containerdState, startImportSite, testedVersion } from '../support/real/import-site.ts';

const signal = new AbortController().signal;

if (canRun(containerdSkipReason(testedVersion, 'crictl-go')))
  test('who needs a lease that is being made waits for it', async () => {
    await using site = await startImportSite();
    const client = new ContainerdClient(site.containerd.socket, 'k8s.io');
    for (let round = 0; round < 10; round++) {
      const lease = new Lease({ client, name: `lease-${round}`, owner: 'test' });
      const resource = { type: 'content', id: site.plan.config.descriptor.digest };
      await Promise.all([lease.current(0, signal), lease.hold(resource, 0, signal)]);
      await lease.delete(signal);
    }
    assert.equal((await containerdState(site.containerd)).leases, []);
    client.close();
  });

test.run();
