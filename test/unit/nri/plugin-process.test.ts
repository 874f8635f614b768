// time limit: 120 s
// The plugin as a process, with a runtime that says what containerd would not: every event is answered in time, whatever it
// is and whatever the agent does.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { Code } from 'ttrpc';
import { bytesField, mapField, readFields, stringField, varintField } from 'ttrpc/protobuf';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type NriPlugin, startNriPlugin } from '../../support/nri.ts';
import { type PodListener, startPodListener } from '../../support/nri-agent.ts';
import { type NriRuntime, type RegisteredPlugin, startNriRuntime } from '../../support/nri-runtime.ts';
import { eventually, failureOf } from '../../support/pull-site.ts';
import { makeTemporaryRoot } from '../../support/real/temporary-root.ts';

/** Every pod of a node waits for it, ms. */
const ANSWER_MS_MAX = 50;
const EVENTS = 300;
/** On a machine that does much else some events wait for a processor; a wait of ours would show in every round. */
const ROUNDS_MAX = 5;
const RSS_BYTES_MAX = 60_000_000;

const test = suite('NRI plugin process');
const MODE = 'k8s.aliyun.com/image-accelerate-mode';
const nothing = Buffer.alloc(0);

interface Bench extends AsyncDisposable {
  readonly runtime: NriRuntime;
  readonly agent: PodListener;
  readonly process: NriPlugin;
  readonly plugin: RegisteredPlugin;
}

async function startBench(): Promise<Bench> {
  await using stack = new AsyncDisposableStack();
  const runtime = stack.use(await startNriRuntime());
  const agent = stack.use(await startPodListener());
  const process = stack.use(startNriPlugin({ nriSocket: runtime.socketPath, agentSocket: agent.socketPath }));
  const plugin = await runtime.nextPlugin();
  const owned = stack.move();
  return { runtime, agent, process, plugin, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** `PodSandbox`, and what every request about a pod begins with. */
function podField(
  number: number,
  id: string,
  annotations: Record<string, string> = { [MODE]: 'p2p' },
): Buffer {
  const fields = [
    stringField(1, id),
    stringField(2, id),
    stringField(3, `${id}-uid`),
    stringField(4, 'team'),
  ];
  return bytesField(number, Buffer.concat([...fields, mapField(6, Object.entries(annotations))]));
}

function createContainerRequest(id: string): Buffer {
  const annotations = { 'io.kubernetes.cri.image-name': 'registry.test/app:1' };
  return Buffer.concat([podField(1, id), bytesField(2, mapField(6, Object.entries(annotations)))]);
}

test('it registers, and wants the three events that it handles, of those that every NRI knows', async () => {
  await using bench = await startBench();
  assert.equal([bench.plugin.name, bench.plugin.index], ['shoal', '40']);
  let events = 0;
  readFields(await bench.plugin.call('Configure', nothing), ({ number, value }) => {
    if (number === 2) events = value;
  });
  assert.is(events, 0b1101);
});

test('a part of a synchronization is answered with more, and the last one tells the agent of all', async () => {
  await using bench = await startBench();
  await bench.plugin.call('Configure', nothing);
  const more = varintField(3, 1);
  const part = await bench.plugin.call('Synchronize', Buffer.concat([podField(1, 'one'), more]));
  assert.is(part.toString('hex'), '1001');
  assert.is((await bench.plugin.call('Synchronize', podField(1, 'two'))).length, 0);
  const found = await eventually(
    () =>
      bench.agent
        .at('/v1/pods/sync')
        .at(-1)
        ?.body.pods?.map(({ name }) => name),
    (names) => names?.length === 2,
  );
  assert.equal(found, ['one', 'two']);
});

for (const [style, start, remove] of [
  ['StateChange', ['StateChange', 1], ['StateChange', 3]],
  ['a call of its own', ['RunPodSandbox', 0], ['RemovePodSandbox', 0]],
] as const) {
  test(`pods are told when events come as ${style}`, async () => {
    await using bench = await startBench();
    await bench.agent.waitFor('/v1/pods/sync', 1);
    await bench.process.waitForLine(/^Connected/);
    const request = ([method, event]: readonly [string, number]): readonly [string, Buffer] => {
      const isNumbered = event !== 0;
      return [method, Buffer.concat([varintField(1, event), podField(isNumbered ? 2 : 1, 'pod')])];
    };
    assert.is((await bench.plugin.call(...request(start))).length, 0);
    assert.is((await bench.agent.waitFor('/v1/pods', 1))[0]?.body.name, 'pod');
    assert.is((await bench.plugin.call(...request(remove))).length, 0);
    assert.is((await bench.agent.waitFor('/v1/pods/removed', 1))[0]?.body.podUid, 'pod-uid');
  });
}

test('a method that it does not have is Unimplemented, and garbage in an event fails no pod', async () => {
  await using bench = await startBench();
  for (const method of ['ValidateContainerAdjustment', 'UpdatePodSandbox', 'toString']) {
    const error = await failureOf(bench.plugin.call(method, nothing));
    assert.equal([error.code, error.message], [Code.Unimplemented, `method ${method}`]);
  }
  for (const method of ['StateChange', 'RunPodSandbox', 'RemovePodSandbox', 'CreateContainer'])
    assert.is((await bench.plugin.call(method, Buffer.from('ffff', 'hex'))).length, 0);
});

test('a wrong configuration is refused, and tells what is wrong', async () => {
  await using bench = await startBench();
  const error = await failureOf(bench.plugin.call('Configure', stringField(1, 'keyPrefix: A')));
  assert.is(
    error.message,
    'Cannot use "keyPrefix": found "A", wanted a DNS name in lower case, such as k8s.aliyun.com',
  );
});

test('a lost connection is dialled again', async () => {
  await using bench = await startBench();
  for (let count = 0; count < 3; count++) {
    const plugin = count === 0 ? bench.plugin : await bench.runtime.nextPlugin();
    await plugin.call('Configure', nothing);
    plugin.socket.destroy();
  }
  await (await bench.runtime.nextPlugin()).call('Synchronize', nothing);
});

for (const state of ['answers', 'is frozen'] as const) {
  test(`every event is answered in under ${ANSWER_MS_MAX} ms while the agent ${state}`, async () => {
    using runtime = await startNriRuntime();
    await using agent = await startAgentProcess();
    await using process = startNriPlugin({ nriSocket: runtime.socketPath, agentSocket: agent.socketPath });
    const plugin = await runtime.nextPlugin();
    await plugin.call('Synchronize', nothing);
    await process.waitForLine(/^Connected/);
    if (state === 'is frozen') agent.freeze();
    let slowMs = Number.POSITIVE_INFINITY;
    for (let round = 0; round < ROUNDS_MAX && slowMs >= ANSWER_MS_MAX; round++) {
      const times = await answerTimes(plugin);
      slowMs = times[Math.floor(EVENTS * 0.98)] ?? slowMs;
      const [median, all] = [times[EVENTS / 2] ?? 0, times.at(-1) ?? 0];
      console.log(`median ${median.toFixed(2)} ms, 98 % ${slowMs.toFixed(2)} ms, all ${all.toFixed(2)} ms`);
    }
    assert.ok(slowMs < ANSWER_MS_MAX, `98 % within ${slowMs} ms`);
  });
}

/** How long each event took, ms, the longest last. */
async function answerTimes(plugin: RegisteredPlugin): Promise<number[]> {
  const times: number[] = [];
  for (let count = 0; count < EVENTS; count++) {
    const [method, payload] =
      count % 2 === 0
        ? (['RunPodSandbox', podField(1, `pod${count}`)] as const)
        : (['CreateContainer', createContainerRequest(`pod${count - 1}`)] as const);
    const startedMs = performance.now();
    await plugin.call(method, payload);
    times.push(performance.now() - startedMs);
  }
  return times.sort((left, right) => left - right);
}

test('it is small', async () => {
  await using bench = await startBench();
  await bench.plugin.call('Synchronize', podField(1, 'pod'));
  await bench.process.waitForLine(/^Connected/);
  // A few seconds after its start it gives back what only that needed.
  const rssBytes = await eventually(
    () => memoryOf(bench.process.pid()),
    (bytes) => bytes < RSS_BYTES_MAX,
  );
  console.log(`${(rssBytes / 1e6).toFixed(1)} MB of memory`);
  assert.ok(rssBytes < RSS_BYTES_MAX, `${rssBytes} bytes`);
});

function memoryOf(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) * 1024;
}

/** An agent's control socket in a process that can be stopped. */
async function startAgentProcess(): Promise<AsyncDisposable & { socketPath: string; freeze(): void }> {
  const root = makeTemporaryRoot('frz');
  const socketPath = root.socketPath('control.sock');
  const program = `require('node:http').createServer((request, response) => {
    response.writeHead(200).flushHeaders();
    if (request.method === 'POST') request.resume().on('end', () => response.end());
  }).listen(${JSON.stringify(socketPath)}, () => console.log('listening'))`;
  const child = spawn(process.execPath, ['-e', program], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  return {
    socketPath,
    freeze: () => child.kill('SIGSTOP'),
    [Symbol.asyncDispose]: async () => {
      const ended = once(child, 'exit');
      child.kill('SIGKILL');
      await ended;
      root.remove();
    },
  };
}

test.run();
