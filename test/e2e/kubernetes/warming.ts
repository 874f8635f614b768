import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { parse, stringify } from 'yaml';
import type { KubeImage } from '../../support/real/kube-cluster.ts';
import type { KubeNode } from '../../support/real/kube-node.ts';
import {
  bringAgentBack,
  type ClusterSite,
  eventsOf,
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
/** All three images take ten seconds at this rate, as long as the init container. */
const LINK_BITS_PER_SECOND = 480e6;
const PAIRS = 2;
const GAIN_MIN = 1.5;

/** What it is worth to bring images while init containers run. */
export function testWarming(site: ClusterSite): void {
  const { cluster, ledger } = site;
  const node = cluster.nodes[0] as KubeNode;

  test(`a pod with a 10 s init container and three 200 MB images is ready ${GAIN_MIN} times sooner when they are warmed`, async () => {
    await makeNamespace(site, NAMESPACE);
    const init = await cluster.registry.push(`${NAMESPACE}/init`, [1_000_000]);
    const runs = await prepareRuns(site);
    const rates = { upBitsPerSecond: LINK_BITS_PER_SECOND, downBitsPerSecond: LINK_BITS_PER_SECOND };
    node.link.setRates(rates);
    cluster.registry.gate.setRate(LINK_BITS_PER_SECOND / 8);
    const seconds = { cold: 0, warm: 0 };
    for (const { kind, name, images } of runs) {
      await setWarming(node, kind === 'warm');
      seconds[kind] += await measure(site, podWith(name, node, init, images), images);
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

/** All images are made beforehand: a disk that still writes them would slow down the first pulls. */
async function prepareRuns({ cluster }: ClusterSite) {
  const runs: { kind: 'cold' | 'warm'; name: string; images: KubeImage[] }[] = [];
  for (let pair = 1; pair <= PAIRS; pair++) {
    for (const kind of ['cold', 'warm'] as const) {
      const name = `${kind}-${pair}`;
      const images: KubeImage[] = [];
      for (let index = 0; index < IMAGES; index++) {
        images.push(await cluster.registry.push(`${NAMESPACE}/${name}-${index}`, LAYERS_BYTES));
      }
      runs.push({ kind, name, images });
    }
  }
  return runs;
}

async function measure(site: ClusterSite, pod: Pod, images: readonly KubeImage[]): Promise<number> {
  const seconds = await startPod(site, pod);
  site.ledger.note(`${pod.name}: ${seconds.toFixed(1)} s; pulls ${await pullTimes(site, pod)}`);
  for (const image of images) {
    const reads = originReads(site, image);
    assert.ok(reads > 0.99 && reads < 1.1, `each byte was read ${reads} times`);
  }
  await site.cluster.kubectl.run('delete', 'pod', pod.name, '-n', NAMESPACE, '--now');
  return seconds;
}

/** How long each PullImage took, as kubelet's events have it. */
async function pullTimes(site: ClusterSite, pod: Pod): Promise<string> {
  const events = await eventsOf(site, pod);
  const times = [...events.matchAll(/Successfully pulled image \S+ in ([\d.]+m?s)/g)].map(([, time]) => time);
  return times.join(', ');
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
