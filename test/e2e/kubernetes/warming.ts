import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { parse, stringify } from 'yaml';
import type { KubeImage } from '../../support/real/kube-cluster.ts';
import type { KubeNode } from '../../support/real/kube-node.ts';
import {
  bringAgentBack,
  type ClusterSite,
  makeNamespace,
  OPTED_IN,
  originReads,
  type Pod,
  removeNamespace,
  startPod,
} from './site.ts';

const NAMESPACE = 'warming';
const INIT_SECONDS = 10;
/** Three of 200 MB. */
const IMAGES = 3;
const LAYERS_BYTES = [100_000_000, 100_000_000];
/** All three images take twelve seconds at this rate. */
const LINK_BITS_PER_SECOND = 400e6;
const PAIRS = 2;
const GAIN_MIN = 1.5;

/** What it is worth to bring images while init containers run. */
export function testWarming(site: ClusterSite): void {
  const { cluster, ledger } = site;
  const node = cluster.nodes[0] as KubeNode;

  test(`a pod with a 10 s init container and three 200 MB images is ready ${GAIN_MIN} times sooner when they are warmed`, async () => {
    await makeNamespace(site, NAMESPACE);
    const init = await cluster.registry.push(`${NAMESPACE}/init`, [1_000_000]);
    const rates = { upBitsPerSecond: LINK_BITS_PER_SECOND, downBitsPerSecond: LINK_BITS_PER_SECOND };
    node.link.setRates(rates);
    cluster.registry.gate.setRate(LINK_BITS_PER_SECOND / 8);
    const seconds = { cold: 0, warm: 0 };
    for (let pair = 1; pair <= PAIRS; pair++) {
      for (const kind of ['cold', 'warm'] as const) {
        await setWarming(node, kind === 'warm');
        seconds[kind] += await measure(site, node, `${kind}-${pair}`, init);
      }
    }
    const gain = seconds.cold / seconds.warm;
    ledger.add('three 200 MB images and a 10 s init container, not warmed', seconds.cold / PAIRS);
    ledger.add('the same, warmed', seconds.warm / PAIRS, `${gain.toFixed(2)} times sooner`);
    node.link.setRates(cluster.link);
    cluster.registry.gate.setRate(cluster.registry.rateBytesPerSecond);
    await removeNamespace(site, NAMESPACE);
    assert.ok(gain >= GAIN_MIN, `${gain.toFixed(2)} times sooner`);
  });
}

async function measure(site: ClusterSite, node: KubeNode, name: string, init: KubeImage): Promise<number> {
  const images = await Promise.all(
    Array.from({ length: IMAGES }, (_, index) =>
      site.cluster.registry.push(`${NAMESPACE}/${name}-${index}`, LAYERS_BYTES),
    ),
  );
  const pod = podWith(name, node, init, images);
  const seconds = await startPod(site, pod);
  site.ledger.note(`${name}: ${seconds.toFixed(1)} s`);
  for (const image of images) {
    const reads = originReads(site, image);
    assert.ok(reads > 0.99 && reads < 1.1, `each byte was read ${reads} times`);
  }
  await site.cluster.kubectl.run('delete', 'pod', name, '-n', NAMESPACE, '--now');
  return seconds;
}

function podWith(name: string, node: KubeNode, init: KubeImage, images: readonly KubeImage[]): Pod {
  const [image] = images as readonly [KubeImage];
  const containers = images.map(({ reference }, index) => {
    return { name: `app-${index}`, image: reference, command: ['/bin/sleep', '2147483647'] };
  });
  const initContainers = [
    { name: 'init', image: init.reference, command: ['/bin/sleep', `${INIT_SECONDS}`] },
  ];
  return { name, namespace: NAMESPACE, image, node, labels: OPTED_IN, spec: { initContainers, containers } };
}

/** An agent that is started anew with the setting. */
async function setWarming(node: KubeNode, enable: boolean): Promise<void> {
  const { configFile } = node.agent;
  const settings = parse(readFileSync(configFile, 'utf8'));
  writeFileSync(configFile, stringify({ ...settings, warm: { ...settings.warm, enable } }));
  node.agent.kill('SIGTERM');
  await bringAgentBack(node);
}
