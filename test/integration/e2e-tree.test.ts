// time limit: 120 s
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { chainIdsOf, parseDigest } from '../../shim/base/digest.ts';
import { buildImage } from '../support/images/build-image.ts';
import { busyboxLayer } from '../support/images/samples.ts';
import { treeCorpus } from '../support/images/tree-corpus.ts';
import { startNodeSite, startOriginSite } from '../support/pull-site.ts';
import { canRun, containerdSkipReason } from '../support/real/components.ts';
import { startContainerd } from '../support/real/containerd.ts';
import { pull } from '../support/real/crictl.ts';
import { testedVersion } from '../support/real/import-site.ts';
import { compareTrees, layerDirectory, mountMerged } from '../support/real/snapshot-trees.ts';
import { makeTemporaryRoot } from '../support/real/temporary-root.ts';

if (canRun(containerdSkipReason(testedVersion, 'crictl-go'))) {
  for (const compression of ['gzip', 'zstd', 'none'] as const) {
    test(`a tree from ${compression} layers equals the one of containerd's own pull, layer by layer and merged`, async () => {
      await using origin = await startOriginSite();
      const layers = [busyboxLayer(), ...treeCorpus];
      using image = await buildImage({ layers, compression, config: { Cmd: ['/bin/sh'] } });
      const { reference } = await origin.push(image, 'corpus');
      await using node = await startNodeSite();
      await using rival = await startContainerd({ version: testedVersion });
      await pull(node.cri, reference);
      assert.is((await node.agent.status()).totals.originBytes, image.layerBytes);
      await pull({ endpoint: rival.socket }, reference);

      for (const chainId of chainIdsOf(image.diffIds.map(parseDigest))) {
        const ours = await layerDirectory(node.containerd, chainId);
        const theirs = await layerDirectory(rival, chainId);
        assert.ok(compareTrees(ours, theirs, { accessTimes: true }).size > 1);
      }
      const top = chainIdsOf(image.diffIds.map(parseDigest)).at(-1) ?? '';
      using root = makeTemporaryRoot('merged');
      const ours = await mountMerged(node.containerd, top, `${root.path}/ours`);
      const theirs = await mountMerged(rival, top, `${root.path}/theirs`);
      // Looking at the layers has moved them.
      const merged = compareTrees(ours, theirs, { accessTimes: false });
      assert.ok(merged.size > 60);
      assert.match(merged.get('capable') ?? '', 'security.capability=01000002');
      assert.not(merged.has('removed') || merged.has('hidden/below'));
    });
  }
}

test.run();
