// time limit: 120 s
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { pushImage } from '../support/images/push-image.ts';
import { buildSampleImage } from '../support/images/samples.ts';
import { canRun, containerdSkipReason } from '../support/real/components.ts';
import { startContainerd } from '../support/real/containerd.ts';
import type { ContainerdVersion } from '../support/real/containerd-config.ts';
import { type CriCallError, pull, runCrictl } from '../support/real/crictl.ts';
import { startRegistry } from '../support/real/registry.ts';
import { makeTemporaryRoot } from '../support/real/temporary-root.ts';

const version = (process.env.CONTAINERD ?? '2.1') as ContainerdVersion;
const ROOT = resolve(import.meta.dirname, '../..');
const AGENT = 'test/unit/front/agent-process.ts';
/** The front probes each 500 ms. */
const NOTICE_MS = 10_000;

if (canRun(containerdSkipReason(version, 'crictl-go'))) {
  test('the front serves a Go client on real containerd while the agent dies and containerd restarts', async () => {
    await using site = await startSite();
    const { cri, containerd, reference, digest } = site;
    const before = await runCrictl(cri, 'version');
    assert.equal(before, await runCrictl({ endpoint: containerd.socket }, 'version'));
    assert.match(await pull(cri, reference), digest);
    await runCrictl(cri, 'rmi', reference);

    const agent = await site.startAgent(60_000);
    const pulled = pull(cri, reference);
    await sleep(200);
    agent.kill('SIGKILL');
    assert.match(await pulled, digest);
    await runCrictl(cri, 'inspecti', reference);

    await containerd.kill('SIGKILL');
    const failure = await runCrictl(cri, 'images').catch((error: CriCallError) => error);
    assert.is((failure as CriCallError).code, 'Unavailable');
    await containerd.start();
    await runCrictl(cri, 'inspecti', reference);
  });

  test('the front gives containerd’s own errors unchanged', async () => {
    await using site = await startSite();
    const missing = `${site.reference}-missing`;
    const ask = (endpoint: string) => pull({ endpoint }, missing).catch((error: CriCallError) => error);
    const [through, direct] = [await ask(site.cri.endpoint), await ask(site.containerd.socket)];
    assert.is((through as CriCallError).code, 'NotFound');
    assert.is((through as CriCallError).message, (direct as CriCallError).message);
    assert.match((through as CriCallError).message, /^failed to pull and unpack image ".*": .*: not found$/);
  });
}

test.run();

/** A registry with one image, a containerd, and the front before it. */
async function startSite() {
  await using stack = new AsyncDisposableStack();
  const registry = stack.use(await startRegistry());
  const image = stack.use(
    await buildSampleImage({ layerSizesBytes: [500_000], compression: ['gzip'], indexed: true }),
  );
  const { reference } = await pushImage(image, { host: registry.host, tag: 'v1', repository: 'team/app' });
  const containerd = stack.use(await startContainerd({ version }));
  const folder = stack.use(makeTemporaryRoot('front'));
  const socket = folder.socketPath('cri.sock');
  const agentSocket = folder.socketPath('agent.sock');
  const flags = [
    '--socket',
    socket,
    '--containerd',
    containerd.socket,
    '--agent',
    agentSocket,
    '--http',
    'off',
  ];
  const front = await startProcess(/Listening/, 'shim/front/main.ts', ...flags);
  stack.defer(() => void front.child.kill('SIGKILL'));
  const owned = stack.move();
  return {
    containerd,
    reference,
    digest: image.config.digest,
    cri: { endpoint: socket },
    async startAgent(delayMs: number): Promise<ChildProcess> {
      const agent = await startProcess(/listening/, AGENT, agentSocket, containerd.socket, String(delayMs));
      owned.defer(() => void agent.child.kill('SIGKILL'));
      const endMs = performance.now() + NOTICE_MS;
      while (!front.log.includes('healthy') && performance.now() < endMs) await sleep(20);
      return agent.child;
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function startProcess(ready: RegExp, script: string, ...args: string[]) {
  const child = spawn(process.execPath, [join(ROOT, script), ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  const started = { child, log: '' };
  const note = (bytes: Buffer) => {
    started.log += bytes;
  };
  child.stdout.on('data', note);
  child.stderr.on('data', note);
  while (!ready.test(started.log))
    await Promise.race([once(child.stdout, 'data'), once(child.stderr, 'data'), once(child, 'exit')]);
  return started;
}
