// time limit: 240 s
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { peakRssBytes, rssBytes } from '../../hack/bench/process-usage.ts';
import { startCriLoad } from '../support/cri-load.ts';
import { startAgentBehind, startFront } from '../support/front.ts';
import { buildSampleImage } from '../support/images/samples.ts';
import { eventually, startOriginSite } from '../support/pull-site.ts';
import { canRun, containerdSkipReason } from '../support/real/components.ts';
import { startContainerd } from '../support/real/containerd.ts';
import { pull, runCrictl } from '../support/real/crictl.ts';
import { containerdState, testedVersion } from '../support/real/import-site.ts';

const MB = 1_000_000;
const FRONT_BYTES_MAX = 60 * MB;
const AGENT_IDLE_BYTES_MAX = 120 * MB;
const AGENT_PULLING_BYTES_MAX = 512 * MB;
const CALLS = 1000;
/** Unpack threads end, and pages go back to the system, some time after the last pull. */
const QUIET_TIMEOUT_MS = 60_000;
const SMALL_BYTES = [20 * MB, 15 * MB, 15 * MB];
const LARGE_BYTES = [120 * MB, 90 * MB, 60 * MB, 30 * MB];

if (canRun(containerdSkipReason(testedVersion, 'crictl-go'))) {
  test('the front stays small, idle, after a thousand calls and after pulls', async () => {
    await using node = await startNode();
    const idleBytes = await quietRssBytes(node.front.pid, FRONT_BYTES_MAX);
    await node.pullAndRemove('warm', SMALL_BYTES);
    {
      await using load = startCriLoad(node.front.socket, 'registry.test/absent:v1');
      await load.answers(CALLS);
      assert.equal(load.failures, []);
    }
    const afterBytes = rssBytes(node.front.pid);
    const peakBytes = peakRssBytes(node.front.pid);
    report({ frontIdle: idleBytes, frontAfterCalls: afterBytes, frontPeak: peakBytes });
    assert.ok(peakBytes <= FRONT_BYTES_MAX, `${peakBytes} bytes at most`);
    assert.ok(idleBytes <= FRONT_BYTES_MAX, `${idleBytes} bytes when idle`);
    assert.ok(afterBytes <= FRONT_BYTES_MAX, `${afterBytes} bytes after ${CALLS} calls`);
  });

  test('the agent stays below 512 MB in a pull of 300 MB and goes back below 120 MB', async () => {
    await using node = await startNode();
    const startBytes = rssBytes(node.agent.pid);
    await node.pullAndRemove('small', SMALL_BYTES);
    const afterSmall = await quietRssBytes(node.agent.pid);
    await node.pullAndRemove('large', LARGE_BYTES);
    const peakBytes = peakRssBytes(node.agent.pid);
    const afterLarge = await quietRssBytes(node.agent.pid);
    report({
      agentStart: startBytes,
      agentAfterSmall: afterSmall,
      agentPeak: peakBytes,
      agentAfterLarge: afterLarge,
    });
    assert.ok(peakBytes <= AGENT_PULLING_BYTES_MAX, `${peakBytes} bytes while pulling`);
    assert.ok(afterSmall <= AGENT_IDLE_BYTES_MAX, `${afterSmall} bytes after 50 MB`);
    assert.ok(afterLarge <= AGENT_IDLE_BYTES_MAX, `${afterLarge} bytes after 300 MB`);
  });
}

test.run();

async function startNode() {
  await using stack = new AsyncDisposableStack();
  const origin = stack.use(await startOriginSite());
  const containerd = stack.use(await startContainerd({ version: testedVersion }));
  const front = stack.use(await startFront({ containerd: containerd.socket }));
  const settings = { policy: { mode: 'all' } };
  const agent = stack.use(await startAgentBehind(front, { containerd: containerd.socket, settings }));
  const cri = { endpoint: front.socket };
  const owned = stack.move();
  return {
    front,
    agent,
    pullAndRemove: async (name: string, layerSizesBytes: readonly number[]): Promise<void> => {
      using image = await buildSampleImage({ layerSizesBytes, seed: name });
      const { reference } = await origin.push(image, name);
      await pull(cri, reference);
      const { originBytes = 0 } = (await agent.status()).totals;
      assert.ok(
        originBytes >= image.layerBytes,
        `${originBytes} bytes by the agent:\n${front.log()}\n${agent.log()}`,
      );
      await runCrictl(cri, 'rmi', reference);
      await eventually(
        () => containerdState(containerd),
        ({ blobs }) => blobs.length === 0,
      );
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

function quietRssBytes(pid: number, boundBytes = AGENT_IDLE_BYTES_MAX): Promise<number> {
  return eventually(
    () => rssBytes(pid),
    (bytes) => bytes <= boundBytes,
    QUIET_TIMEOUT_MS,
  );
}

function report(figures: Readonly<Record<string, number>>): void {
  const parts = Object.entries(figures).map(([name, bytes]) => `${name} ${(bytes / MB).toFixed(0)} MB`);
  process.stdout.write(`${parts.join(', ')}\n`);
}
