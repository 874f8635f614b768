// time limit: 120 s
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Agent, pullToEnd, startAgent } from '../support/agent.ts';
import { type BuiltImage, buildImage, type Descriptor } from '../support/images/build-image.ts';
import { randomBytes } from '../support/images/samples.ts';
import {
  failureOf,
  type NodeSite,
  type OriginSite,
  startNodeSite,
  startOriginSite,
  startPeers,
} from '../support/pull-site.ts';
import { canRun, componentsAvailable, containerdSkipReason } from '../support/real/components.ts';
import { pull, runCrictl } from '../support/real/crictl.ts';
import { testedVersion } from '../support/real/import-site.ts';

const LAYER_BYTES = 5_000_000;
const USER = { username: 'kay', password: 'right-password' };
const CREDS = `${USER.username}:${USER.password}`;
const guarded = { basic: { user: USER.username, password: USER.password } };

if (canRun(componentsAvailable('registry'))) {
  test('each pull asks for the manifest with its own credentials, also when every byte is there', async () => {
    await using origin = await startOriginSite(guarded);
    await using agent = await startAgent({ name: 'reader' });
    using image = await imageOf('again');
    const { reference, digestReference } = await origin.push(image, 'team/app');
    await pullToEnd(agent.pull(reference, undefined, USER));
    for (const name of [reference, digestReference]) {
      origin.gate.reset();
      const end = await pullToEnd(agent.pull(name, undefined, USER));
      assert.is(end.counts.originBytes, 0);
      const asked = origin.gate.requests({ class: 'manifest' }).map((each) => each.authorization);
      assert.ok(asked.includes('basic'), `${name}: ${asked}`);
      assert.is(origin.gate.count({ class: 'blob' }).bytes, image.config.size);
    }
  });

  test('a wrong password, none, and 404 are refused although every byte is there', async () => {
    await using origin = await startOriginSite(guarded);
    await using agent = await startAgent({ name: 'reader' });
    using image = await imageOf('refused');
    const { reference, digestReference } = await origin.push(image, 'team/app');
    await pullToEnd(agent.pull(reference, undefined, USER));
    for (const name of [reference, digestReference]) {
      const wrong = { ...USER, password: 'wrong' };
      assert.match((await failureOf(pullToEnd(agent.pull(name, undefined, wrong)))).message, 'UNAUTHORIZED');
      assert.match((await failureOf(pullToEnd(agent.pull(name)))).message, 'UNAUTHORIZED');
      origin.gate.inject({ class: 'manifest', fault: { kind: 'status', status: 404 } });
      assert.match((await failureOf(pullToEnd(agent.pull(name, undefined, USER)))).message, 'NOT_FOUND');
      origin.gate.clearFaults();
    }
  });

  test('a right that was taken away ends what the cache gives', async () => {
    await using origin = await startOriginSite({
      token: { users: { kay: { password: USER.password }, guest: { password: 'p', repositories: [] } } },
    });
    await using agent = await startAgent({ name: 'reader' });
    using image = await imageOf('token');
    const { reference } = await origin.push(image, 'team/app');
    await pullToEnd(agent.pull(reference, undefined, USER));
    const guest = { username: 'guest', password: 'p' };
    const failure = await failureOf(pullToEnd(agent.pull(reference, undefined, guest)));
    assert.match(failure.message, 'UNAUTHORIZED');
  });

  test('an attacker whose manifest lists the layer of a victim gets 0 bytes of it', async () => {
    await using victim = await startOriginSite(guarded);
    await using attacker = await startOriginSite();
    using secret = await imageOf('secret');
    const { reference } = await victim.push(secret, 'team/secret');
    await using peers = await startPeers(['first', 'second']);
    const [first, second] = peers.agents as [Agent, Agent];
    await pullToEnd(first.pull(reference, undefined, USER));
    // What the origin takes longer to give is taken from the peer.
    victim.gate.setRate(1_000_000);
    const shared = await pullToEnd(second.pull(reference, undefined, USER));
    assert.ok(shared.counts.peerBytes > 0, 'the two do share what both may read');
    const bait = await pushBait(attacker, secret);
    for (const agent of [first, second]) await assertNothingGiven(agent, bait);
  });
}

if (canRun(containerdSkipReason(testedVersion, 'crictl-go'))) {
  test('CRI: the image on the node is no answer to a wrong password, and to no password containerd answers', async () => {
    await using origin = await startOriginSite(guarded);
    await using node = await startNodeSite();
    using image = await imageOf('cri');
    const { reference, digestReference } = await origin.push(image, 'team/app');
    assert.is(await pull(node.cri, reference, { creds: CREDS }), image.config.digest);
    for (const name of [reference, digestReference]) {
      origin.gate.reset();
      assert.is(await pull(node.cri, name, { creds: CREDS }), image.config.digest);
      assert.ok(origin.gate.requests({ class: 'manifest' }).some((each) => each.authorization === 'basic'));
      const wrong = await failureOf(pull(node.cri, name, { creds: `${USER.username}:wrong` }));
      assert.match(wrong.message, /pull access denied/);
      const handedOver = countHandOvers(node);
      const anonymous = await failureOf(pull(node.cri, name));
      const own = await failureOf(pull({ endpoint: node.containerd.socket }, name));
      assert.equal([anonymous.code, anonymous.message], [own.code, own.message]);
      assert.is(countHandOvers(node), handedOver + 1);
    }
    origin.gate.inject({ class: 'manifest', fault: { kind: 'status', status: 404 } });
    assert.is((await failureOf(pull(node.cri, reference, { creds: CREDS }))).code, 'NotFound');
  });

  test('CRI: an attacker whose manifest lists the layer of a victim gets 0 bytes of it', async () => {
    await using victim = await startOriginSite(guarded);
    await using attacker = await startOriginSite();
    await using node = await startNodeSite();
    using secret = await imageOf('secret-cri');
    const { reference } = await victim.push(secret, 'team/secret');
    await pull(node.cri, reference, { creds: CREDS });
    const bait = await pushBait(attacker, secret);
    const before = await node.agent.status();
    const failure = await failureOf(pull(node.cri, bait.reference));
    assert.match(failure.message, /not found/);
    assert.equal((await node.agent.status()).totals, before.totals);
    const { images } = await runCrictl<{ images: { repoTags: string[] }[] }>(node.cri, 'images');
    assert.equal(
      images.flatMap((each) => each.repoTags),
      [reference],
    );
  });
}

test.run();

function imageOf(seed: string): Promise<BuiltImage> {
  const entries = [{ name: 'data', content: randomBytes(LAYER_BYTES, seed) }];
  return buildImage({ layers: [{ entries }], gzipLevel: 0 });
}

/** Manifest and config of the victim's image at the attacker's registry, where the layer itself is missing. */
async function pushBait(attacker: OriginSite, secret: BuiltImage) {
  const pushed = await attacker.push(secret, 'team/bait');
  const [layer] = secret.layers as [Descriptor];
  attacker.gate.inject({ class: 'blob', path: layer.digest, fault: { kind: 'status', status: 404 } });
  return pushed;
}

async function assertNothingGiven(agent: Agent, bait: { readonly reference: string }): Promise<void> {
  const before = await agent.status();
  const failure = await failureOf(pullToEnd(agent.pull(bait.reference)));
  assert.match(failure.message, 'NOT_FOUND');
  const after = await agent.status();
  assert.equal(after.totals, before.totals, `${agent.name}: bytes from anywhere`);
}

function countHandOvers(node: NodeSite): number {
  return node.agent.log().split('"verdict":"handOver"').length - 1;
}
