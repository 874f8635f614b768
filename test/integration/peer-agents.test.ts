// time limit: 120 s
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Agent, pullToEnd, startAgent } from '../support/agent.ts';
import { freePort } from '../support/free-port.ts';
import { buildSampleImage } from '../support/images/samples.ts';
import { startOriginSite } from '../support/pull-site.ts';
import { canRun, componentsAvailable } from '../support/real/components.ts';

const MB = 1_000_000;
const SHOAL = resolve(import.meta.dirname, '../../shim/shoal');
const ME = { username: 'me', password: 'my-password' };

/** Certificates of one authority for nodes with these names, all on 127.0.0.1. */
function makeCertificates(directory: string, names: readonly string[]): void {
  const nodes = names.map((name) => `${name}=127.0.0.1`).join(',');
  execFileSync(SHOAL, ['certs', 'init', '--nodes', nodes, '--out', directory], { stdio: 'ignore' });
}

function tlsOf(directory: string) {
  return { ca: `${directory}/ca.crt`, cert: `${directory}/tls.crt`, key: `${directory}/tls.key` };
}

/** Agents that know each other, each with the certificate in its directory. */
async function startAgents(directories: readonly string[], stack: AsyncDisposableStack): Promise<Agent[]> {
  const ports = await Promise.all(directories.map(() => freePort()));
  const addresses = ports.map((port) => `127.0.0.1:${port}`);
  const agents: Agent[] = [];
  for (const [index, directory] of directories.entries()) {
    const listen = addresses[index] ?? '';
    const peers = { listen, static: addresses.filter((each) => each !== listen), tls: tlsOf(directory) };
    agents.push(stack.use(await startAgent({ name: `agent-${index}`, listen, settings: { peers } })));
  }
  return agents;
}

if (canRun(componentsAvailable('registry'))) {
  test('agents with certificates of shoal certs init share a private image, and one of another authority gets nothing', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'shoal-certs-'));
    await using stack = new AsyncDisposableStack();
    stack.defer(() => rmSync(directory, { recursive: true }));
    makeCertificates(join(directory, 'ours'), ['one', 'two']);
    makeCertificates(join(directory, 'theirs'), ['three']);
    await using origin = await startOriginSite({ basic: { user: ME.username, password: ME.password } });
    using image = await buildSampleImage({ layerSizesBytes: [6 * MB, 5 * MB] });
    const { reference } = await origin.push(image, 'team/private');
    const places = ['ours/one', 'ours/two', 'theirs/three'].map((name) => join(directory, name));
    const [first, second, stranger] = (await startAgents(places, stack)) as [Agent, Agent, Agent];
    const pull = (agent: Agent) => pullToEnd(agent.pull(reference, undefined, ME));
    await pull(first);
    assert.ok((await pull(second)).counts.peerBytes > 0.5 * image.layerBytes);
    assert.is((await pull(stranger)).counts.peerBytes, 0);
    for (const agent of [first, second, stranger]) assert.not.match(agent.log(), ME.password);
  });

  test('an agent that is told to stop while nobody needs it is gone at once', async () => {
    await using agent = await startAgent({ name: 'idle' });
    const startMs = performance.now();
    agent.kill('SIGTERM');
    await agent.ended;
    assert.ok(performance.now() - startMs < 5_000);
  });
}

test('an agent that lets peers talk in plain text warns of it at each start', async () => {
  const listen = `127.0.0.1:${await freePort()}`;
  await using agent = await startAgent({
    name: 'plain',
    listen,
    settings: { peers: { listen, insecure: true } },
  });
  assert.match(agent.log(), /peers\.insecure: peers talk in plain text/);
});

test('an agent whose certificate cannot be used does not start, and says why', async () => {
  const peers = { listen: '127.0.0.1:0', tls: tlsOf('/nowhere') };
  const failure = await startAgent({ name: 'broken', settings: { peers } }).catch((error) => error);
  assert.match(String(failure), 'Cannot use "/nowhere/');
});

test.run();
