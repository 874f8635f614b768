// time limit: 120 s
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Agent, pullToEnd, startAgent } from '../support/agent.ts';
import { buildImage } from '../support/images/build-image.ts';
import type { LayerEntry } from '../support/images/layer-tar.ts';
import {
  assertNothingLeft,
  failureOf,
  type NodeSite,
  type OriginSite,
  startNodeSite,
  startOriginSite,
} from '../support/pull-site.ts';
import { canRun, componentsAvailable, containerdSkipReason } from '../support/real/components.ts';
import { type CriCallError, pull, runCrictl } from '../support/real/crictl.ts';
import { testedVersion } from '../support/real/import-site.ts';

const UNPACKED_BYTES_MAX = 32 * 2 ** 20;
const BOMB_BYTES = 200 * 2 ** 20;
const limits = { unpackedBytesMax: UNPACKED_BYTES_MAX };

if (canRun(componentsAvailable('registry'))) {
  test('the layout store refuses a gzip bomb at the limit, and nothing of it stays', async () => {
    await using origin = await startOriginSite();
    await using agent = await startAgent({ name: 'layout', settings: { limits } });
    using bomb = await buildImage({ layers: [zeros(BOMB_BYTES)], gzipLevel: 9 });
    assert.ok(bomb.layerBytes < BOMB_BYTES / 500, `${bomb.layerBytes} bytes on the wire`);
    const { reference } = await origin.push(bomb, 'team/bomb');
    const failure = await failureOf(pullToEnd(agent.pull(reference)));
    assert.match(failure.message, `LIMIT_EXCEEDED`);
    assertEmptyLayout(agent);
  });

  for (const [name, entries] of Object.entries(escapes('/tmp/shoal-escaped-layout')))
    test(`the layout store writes nothing outside its root for ${name}`, async () => {
      await using origin = await startOriginSite();
      await using agent = await startAgent({ name: 'layout' });
      using image = await buildImage({ layers: [{ entries }] });
      const { reference } = await origin.push(image, 'team/slip');
      await pullToEnd(agent.pull(reference)).catch(() => assertEmptyLayout(agent));
      assert.not(existsSync('/tmp/shoal-escaped-layout'));
    });
}

let origin: OriginSite;
let node: NodeSite;

if (canRun(containerdSkipReason(testedVersion, 'crictl-go'))) {
  const needsContainerd = async (): Promise<void> => {
    if (node !== undefined) return;
    origin = await startOriginSite();
    node = await startNodeSite({ agent: { settings: { limits } } });
  };
  test.after(async () => {
    await node?.[Symbol.asyncDispose]();
    await origin?.[Symbol.asyncDispose]();
  });

  test('a gzip bomb is left to containerd at the limit, and nothing half-done stays', async () => {
    await needsContainerd();
    using bomb = await buildImage({ layers: [zeros(BOMB_BYTES)], gzipLevel: 9 });
    const { reference } = await origin.push(bomb, 'team/bomb');
    await pull(node.cri, reference);
    assert.match(node.agent.log(), 'LIMIT_EXCEEDED');
    await assertNothingLeft(node);
    await runCrictl(node.cri, 'rmi', reference);
  });

  for (const [name, entries] of Object.entries(escapes('/tmp/shoal-escaped')))
    test(`${name}: nothing is written outside the root, the outcome is that of containerd`, async () => {
      await needsContainerd();
      using image = await buildImage({ layers: [{ entries }] });
      const { reference } = await origin.push(image, `team/${name.replace(/[^a-z0-9]+/g, '-')}`);
      const outcome = await pull(node.cri, reference).catch((error: CriCallError) => error.code);
      assert.not(existsSync('/tmp/shoal-escaped'));
      await assertNothingLeft(node);
      await runCrictl(node.cri, 'rmi', reference);
      const own = await pull({ endpoint: node.containerd.socket }, reference).catch(
        (error: CriCallError) => error.code,
      );
      assert.is(outcome, own);
      await runCrictl(node.cri, 'rmi', reference);
    });

  test('after all that the agent pulls as before', async () => {
    await needsContainerd();
    using image = await buildImage({ layers: [{ entries: [{ name: 'a', content: 'fine' }] }] });
    const { reference } = await origin.push(image, 'team/fine');
    assert.is(await pull(node.cri, reference), image.config.digest);
    assert.match(node.agent.log(), '"pulled"');
  });
}

test.run();

function zeros(sizeBytes: number): { entries: LayerEntry[] } {
  return { entries: [{ name: 'zeros', content: Buffer.alloc(sizeBytes) }] };
}

/** Layers that try to make `path`. */
function escapes(path: string): Record<string, LayerEntry[]> {
  const content = 'escaped';
  return {
    'a name with two dots': [{ name: `../../../../../../../../../../../..${path}`, content }],
    'an absolute name': [{ name: path, content }],
    'a write through a symlink': [
      { name: 'out', type: 'symlink', linkname: '/tmp' },
      { name: `out/${path.slice('/tmp/'.length)}`, content },
    ],
    'a write through a symlink with two dots': [
      { name: 'out', type: 'symlink', linkname: '../../../../../../../../../../../../tmp' },
      { name: `out/${path.slice('/tmp/'.length)}`, content },
    ],
    'a hardlink to a file outside': [
      { name: 'passwd', type: 'link', linkname: '../../../../../../../../../../../../etc/passwd' },
    ],
  };
}

/** No image, no root, nothing staged. */
function assertEmptyLayout(agent: Agent): void {
  const layout = join(agent.directory, 'layout');
  assert.equal(readdirSync(join(layout, 'rootfs')), []);
  assert.equal(readdirSync(join(layout, '.staging')), []);
}
