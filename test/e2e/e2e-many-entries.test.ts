// time limit: 300 s
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { chainIdsOf, parseDigest } from '../../shim/base/digest.ts';
import { buildImage } from '../support/images/build-image.ts';
import type { LayerEntry } from '../support/images/layer-tar.ts';
import { startNodeSite, startOriginSite } from '../support/pull-site.ts';
import { canRun, containerdSkipReason } from '../support/real/components.ts';
import { startContainerd } from '../support/real/containerd.ts';
import { pull } from '../support/real/crictl.ts';
import { testedVersion } from '../support/real/import-site.ts';
import { compareTrees, layerDirectory } from '../support/real/snapshot-trees.ts';

/** Of the lower layer. `ENTRIES=100000` takes a minute or more, most of it containerd's and that of comparing. */
const ENTRIES = Number(process.env.ENTRIES ?? 10_000);
const ENTRIES_PER_DIRECTORY = 500;
const CHANGED_EACH = 10;
const PULL_TIMEOUT_MS = 1_200_000;
const OLDEST_SECONDS = 1_600_000_000;

if (canRun(containerdSkipReason(testedVersion, 'crictl-go')))
  test(`the tree of a layer of ${ENTRIES} entries, and of one over it, equals that of containerd's own pull`, async () => {
    await using origin = await startOriginSite();
    const layers = [{ entries: lowerEntries() }, { entries: upperEntries() }];
    using image = await buildImage({ layers });
    const { reference } = await origin.push(image, 'many');
    await using node = await startNodeSite();
    await using rival = await startContainerd({ version: testedVersion });
    await pull({ ...node.cri, timeoutMs: PULL_TIMEOUT_MS }, reference);
    assert.match(node.agent.log(), /"message":"pulled"/);
    await pull({ endpoint: rival.socket, timeoutMs: PULL_TIMEOUT_MS }, reference);
    const sizes: number[] = [];
    for (const chainId of chainIdsOf(image.diffIds.map(parseDigest))) {
      const [ours, theirs] = [
        await layerDirectory(node.containerd, chainId),
        await layerDirectory(rival, chainId),
      ];
      sizes.push(compareTrees(ours, theirs, { accessTimes: true }).size);
    }
    assert.ok((sizes[0] ?? 0) >= ENTRIES && (sizes[1] ?? 0) >= ENTRIES / CHANGED_EACH, `${sizes} entries`);
  });

test.run();

/** Files, links and directories with owners, modes and times that differ from one to the next. */
function lowerEntries(): LayerEntry[] {
  return Array.from({ length: ENTRIES }, (_, index) => {
    const at = index % ENTRIES_PER_DIRECTORY;
    const name = nameOf(index);
    const mtime = new Date((OLDEST_SECONDS + index) * 1000);
    if (at === 0)
      return { name: directoryOf(index), type: 'directory', mode: 0o700 + (index % 64), mtime } as const;
    if (at % 50 === 1) return { name, type: 'symlink', linkname: `../elsewhere/${index}`, mtime } as const;
    if (at % 50 === 3) return { name, type: 'link', linkname: nameOf(index - 1) } as const;
    return {
      name,
      mode: 0o600 + (index % 128),
      uid: index % 7,
      gid: index % 1000,
      mtime,
      content: `${index}`,
    };
  });
}

/** Every tenth entry of the lower layer is replaced, removed, or made a directory. */
function upperEntries(): LayerEntry[] {
  return Array.from({ length: ENTRIES / CHANGED_EACH }, (_, turn) => {
    const index = turn * CHANGED_EACH + 5;
    const name = nameOf(index);
    if (turn % 3 === 0) return { name, content: 'other', mode: 0o4755 };
    if (turn % 3 === 1) return { name: name.replace(/([^/]+)$/, '.wh.$1'), content: '' };
    return { name, type: 'directory' } as const;
  });
}

function directoryOf(index: number): string {
  return `d${Math.floor(index / ENTRIES_PER_DIRECTORY)}`;
}

function nameOf(index: number): string {
  return `${directoryOf(index)}/f${index}`;
}
