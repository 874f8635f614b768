// time limit: 150 s
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import * as grpc from '@grpc/grpc-js';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { writeField } from '../../../shim/cri/protobuf-reader.ts';
import {
  callUnary,
  EVENTS,
  grpcClient,
  PULL,
  STATUS,
  socketDirectory,
  startGrpcServer,
} from '../cri/grpc-peer.ts';

const ROOT = resolve(import.meta.dirname, '../../..');
const REQUEST = writeField(1, writeField(1, Buffer.from('registry.test/app:1')));
const BY_CONTAINERD = writeField(1, Buffer.from('sha256:containerd'));
const BY_AGENT = writeField(1, Buffer.from('sha256:agent'));
/** Longer than the front takes to notice anything: probe interval and time limit, and a slow machine. */
const NOTICE_MS = 10_000;

async function startFront(options: { readonly containerd: boolean }) {
  const directory = await socketDirectory();
  const path = (name: string) => join(directory.path, name);
  const children: ChildProcess[] = [];
  const run = async (ready: RegExp, script: string, ...args: string[]) => {
    const child = spawn(process.execPath, [join(ROOT, script), ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    children.push(child);
    const log = { text: '' };
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (bytes) => {
        log.text += bytes;
      });
    }
    while (!ready.test(log.text)) {
      assert.is(child.exitCode, null, log.text);
      await sleep(5);
    }
    return { child, log };
  };
  const pulls = { containerd: 0 };
  const startContainerd = () =>
    startGrpcServer(path('containerd.sock'), {
      [STATUS]: [
        'unary',
        ((call, reply) => reply(null, call.request)) satisfies grpc.handleUnaryCall<Buffer, Buffer>,
      ],
      [PULL]: [
        'unary',
        ((_call, reply) => {
          pulls.containerd += 1;
          reply(null, BY_CONTAINERD);
        }) satisfies grpc.handleUnaryCall<Buffer, Buffer>,
      ],
      [EVENTS]: [
        'server',
        ((call) => {
          const timer = setInterval(() => call.write(Buffer.from('tick')), 20);
          call.on('cancelled', () => clearInterval(timer));
        }) satisfies grpc.handleServerStreamingCall<Buffer, Buffer>,
      ],
    });
  let server = options.containerd ? await startContainerd() : undefined;
  const front = await run(
    /Listening/,
    'shim/front/main.ts',
    ...['--socket', path('kubelet.sock'), '--containerd', path('containerd.sock')],
    ...['--agent', path('agent.sock'), '--http', 'off'],
  );
  const client = grpcClient(path('kubelet.sock'));
  return {
    front,
    client,
    pulls,
    async startContainerd() {
      server = await startContainerd();
    },
    /** An agent whose pulls take `delayMs`; resolves when the front has found it healthy. */
    async startAgent(delayMs: number): Promise<ChildProcess> {
      const before = front.log.text.length;
      const { child } = await run(
        /listening/,
        'test/unit/front/agent-process.ts',
        ...[path('agent.sock'), path('containerd.sock'), String(delayMs)],
      );
      await waitFor('a healthy agent', () => front.log.text.slice(before).includes('healthy'));
      return child;
    },
    async [Symbol.asyncDispose]() {
      client.close();
      for (const child of children) child.kill('SIGKILL');
      server?.forceShutdown();
      await directory[Symbol.asyncDispose]();
    },
  };
}

async function waitFor(what: string, check: () => boolean | Promise<boolean>): Promise<void> {
  const endMs = performance.now() + NOTICE_MS;
  while (!(await check())) {
    assert.ok(performance.now() < endMs, `Cannot wait for ${what}: not within ${NOTICE_MS} ms`);
    await sleep(20);
  }
}

const pull = (client: grpc.Client) => callUnary(client, PULL, REQUEST);

/** Calls without a pause until told to stop, and keeps a stream open beside it. */
function hammer(client: grpc.Client) {
  const state = { calls: 0, ticks: 0, failures: [] as string[], running: true };
  const same = (bytes: Buffer) => bytes;
  const stream = client.makeServerStreamRequest(EVENTS, same, same, Buffer.alloc(0), new grpc.Metadata());
  stream.on('data', () => {
    state.ticks += 1;
  });
  stream.on('error', (error) => state.running && state.failures.push(`stream: ${error.message}`));
  const work = async () => {
    while (state.running) {
      const { error } = await callUnary(client, STATUS, Buffer.from('image'));
      state.calls += 1;
      if (error !== undefined) state.failures.push(error.message);
      await sleep(2);
    }
  };
  const workers = [work(), work()];
  return {
    state,
    async stop() {
      state.running = false;
      stream.cancel();
      await Promise.all(workers);
    },
  };
}

test('runFront() fails no call while the agent is killed, frozen, thawed and upgraded', async () => {
  await using side = await startFront({ containerd: true });
  const load = hammer(side.client);
  let agent = await side.startAgent(0);
  assert.equal((await pull(side.client)).bytes, BY_AGENT);

  agent.kill('SIGKILL');
  await once(agent, 'exit');
  assert.equal((await pull(side.client)).bytes, BY_CONTAINERD);

  agent = await side.startAgent(0);
  assert.equal((await pull(side.client)).bytes, BY_AGENT);
  agent.kill('SIGSTOP');
  assert.equal((await pull(side.client)).bytes, BY_CONTAINERD);
  agent.kill('SIGCONT');
  await waitFor(
    'pulls by the thawed agent',
    async () => (await pull(side.client)).bytes?.equals(BY_AGENT) === true,
  );

  agent.kill('SIGTERM');
  await once(agent, 'exit');
  await side.startAgent(0);
  assert.equal((await pull(side.client)).bytes, BY_AGENT);

  await load.stop();
  assert.equal(load.state.failures, []);
  assert.ok(load.state.calls > 100 && load.state.ticks > 50, JSON.stringify(load.state));
});

for (const signal of ['SIGKILL', 'SIGSTOP', 'SIGTERM'] as const) {
  test(`runFront() sends a pull in flight to containerd when the agent gets ${signal}`, async () => {
    await using side = await startFront({ containerd: true });
    const agent = await side.startAgent(60_000);
    const answer = pull(side.client);
    await sleep(50);
    assert.is(side.pulls.containerd, 0);
    agent.kill(signal);
    const { bytes, error } = await answer;
    assert.is(error, undefined);
    assert.equal(bytes, BY_CONTAINERD);
    assert.is(side.pulls.containerd, 1);
  });
}

test('runFront() lets a pull go on for longer than its probe waits', async () => {
  await using side = await startFront({ containerd: true });
  await side.startAgent(3500);
  assert.equal((await pull(side.client)).bytes, BY_AGENT);
  assert.is(side.pulls.containerd, 0);
});

test('runFront() answers Unavailable while there is neither agent nor containerd, and serves when one comes', async () => {
  await using side = await startFront({ containerd: false });
  for (const path of [STATUS, PULL]) {
    const { error } = await callUnary(side.client, path, REQUEST);
    assert.is(error?.code, grpc.status.UNAVAILABLE);
    assert.match(error?.details ?? '', /^Cannot reach containerd at ".*": ENOENT$/);
  }
  await side.startContainerd();
  assert.equal((await pull(side.client)).bytes, BY_CONTAINERD);
});

/** 60 MB, idle and in use; the moments of its start apart, when it holds code that it needs no more. */
const RSS_KIB_MAX = 60_000_000 / 1024;
const SETTLE_TIMEOUT_MS = 10_000;

test('runFront() stays small, also after a thousand calls', async () => {
  await using side = await startFront({ containerd: true });
  const rssKib = () =>
    Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${side.front.child.pid}/status`, 'utf8'))?.[1]);
  const deadlineMs = performance.now() + SETTLE_TIMEOUT_MS;
  const startKib = rssKib();
  while (rssKib() > startKib - 4096 && performance.now() < deadlineMs)
    await new Promise((resolve) => setTimeout(resolve, 100));
  assert.ok(rssKib() <= RSS_KIB_MAX - 8192, `${rssKib()} KiB idle`);
  for (let round = 0; round < 100; round += 1) {
    await Promise.all(Array.from({ length: 10 }, () => callUnary(side.client, STATUS, Buffer.alloc(64))));
  }
  assert.ok(rssKib() <= RSS_KIB_MAX, `${rssKib()} KiB after a thousand calls`);
});

test.run();
