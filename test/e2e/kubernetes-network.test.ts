// time limit: 120 s
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { resolve } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createNetwork, type NetworkNode, networkSkipReason } from '../../hack/cluster/network.ts';
import { eventually } from '../support/pull-site.ts';
import { canRun } from '../support/real/components.ts';

const MODULE = resolve(import.meta.dirname, '../../hack/cluster/network.ts');
const SENT_BYTES = 5_000_000;
/** The bytes need two seconds at this rate. */
const SLOW_BITS_PER_SECOND = 20e6;

if (canRun(networkSkipReason())) {
  test("createNetwork() limits each node's link by itself, and counts what passes", async () => {
    using network = createNetwork({ nodes: [{ downBitsPerSecond: SLOW_BITS_PER_SECOND }, {}] });
    const [slow, free] = network.nodes as [NetworkNode, NetworkNode];
    const slowSeconds = await download(network.address, slow);
    const freeSeconds = await download(network.address, free);
    assert.ok(slowSeconds > 1.5, `${slowSeconds} s behind a limit of two seconds`);
    assert.ok(freeSeconds < slowSeconds / 2, `${freeSeconds} s without a limit, ${slowSeconds} s with one`);
    const { downBytes, upBytes } = slow.traffic();
    assert.ok(downBytes > SENT_BYTES && downBytes < SENT_BYTES * 1.1, `${downBytes} bytes down`);
    assert.ok(upBytes > 0 && upBytes < SENT_BYTES / 10, `${upBytes} bytes up`);
    slow.setRates({});
    assert.ok((await download(network.address, slow)) < slowSeconds / 2);
  });

  test('cut() stops what passes a link, and mend() lets it pass again', async () => {
    using network = createNetwork({ nodes: [{}] });
    const [node] = network.nodes as [NetworkNode];
    assert.ok(await reaches(network.address, node));
    node.cut();
    assert.not(await reaches(network.address, node));
    node.mend();
    // Neighbours that did not answer are asked again after some time.
    assert.ok(await eventually(() => reaches(network.address, node), Boolean));
  });

  test('destroy() leaves nothing, and what a killed process left is removed by the next network', () => {
    const script = `const { createNetwork } = await import(${JSON.stringify(MODULE)});
      createNetwork({ nodes: [{}, {}] });
      process.kill(process.pid, 'SIGKILL');`;
    const { pid } = spawnSync(process.execPath, ['--input-type=module', '-e', script]);
    assert.is(tracesOf(pid).length, 5, 'a bridge, two links and two namespaces');
    const network = createNetwork({ nodes: [{}] });
    assert.equal(tracesOf(pid), []);
    assert.is(tracesOf(process.pid).length, 3);
    network.destroy();
    assert.equal(tracesOf(process.pid), []);
  });
}

test.run();

/** Seconds that a node needs for some megabytes from a server on the host. */
async function download(address: string, node: NetworkNode): Promise<number> {
  const server = createServer((socket) => socket.once('error', () => {}).end(Buffer.alloc(SENT_BYTES)));
  await once(server.listen(0, address), 'listening');
  const { port } = server.address() as AddressInfo;
  const startedMs = performance.now();
  const [code] = await once(inside(node, `cat < /dev/tcp/${address}/${port} > /dev/null`), 'exit');
  assert.is(code, 0);
  server.close();
  return (performance.now() - startedMs) / 1000;
}

async function reaches(address: string, node: NetworkNode): Promise<boolean> {
  const server = createServer((socket) => socket.once('error', () => {}).end());
  await once(server.listen(0, address), 'listening');
  const { port } = server.address() as AddressInfo;
  const [code] = await once(inside(node, `timeout 2 bash -c '< /dev/tcp/${address}/${port}'`), 'exit');
  server.close();
  return code === 0;
}

function inside(node: NetworkNode, script: string) {
  const [command = '', ...args] = [...node.enter, 'bash', '-c', script];
  return spawn(command, args, { stdio: 'ignore' });
}

function tracesOf(pid: number): string[] {
  const folders = ['/sys/class/net', '/var/run/netns'].filter((folder) => existsSync(folder));
  return folders
    .flatMap((folder) => readdirSync(folder))
    .filter((name) => new RegExp(`\\D${pid}(\\D|$)`).test(name));
}
