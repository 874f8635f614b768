import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setInterval as ticks } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { peakRssBytes } from '../../../hack/bench/process-usage.ts';

const LAUNCHER = resolve(import.meta.dirname, '../../../shim/shoal');
const FRONT_BYTES_MAX = 60_000_000;
/** A peak is forgotten when a process becomes another program, which the launcher does twice. */
const LOOK_INTERVAL_MS = 10;
/** The start is over by then, and so is what it does a few seconds later. */
const WATCH_AFTER_LISTENING_MS = 4000;

test('the front takes at most 60 MB from its first moment on, once its code is in the cache', async () => {
  const root = mkdtempSync(join(tmpdir(), 'shoal-fm-'));
  try {
    await peakOfStart(root, 0);
    const peakBytes = await peakOfStart(root, WATCH_AFTER_LISTENING_MS);
    assert.ok(peakBytes > 20_000_000 && peakBytes <= FRONT_BYTES_MAX, `${peakBytes} bytes`);
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
});

test.run();

/** Starts a front, ends it some time after it has begun to listen, and gives the most memory that it ever had, bytes. */
async function peakOfStart(root: string, watchMs: number): Promise<number> {
  const flags = {
    socket: 'cri.sock',
    containerd: 'none.sock',
    agent: 'none/cri.sock',
    'agent-http': 'none/http.sock',
  };
  const args = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, join(root, value)]);
  const child = spawn(LAUNCHER, ['front', '--http', '127.0.0.1:0', ...args], {
    env: { ...process.env, NODE_COMPILE_CACHE: join(root, 'cache') },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const ended = once(child, 'exit');
  let log = '';
  let listeningAtMs = Number.POSITIVE_INFINITY;
  child.stderr.on('data', (data: Buffer) => {
    log += data;
    if (/Listening/.test(log)) listeningAtMs = Math.min(listeningAtMs, performance.now());
  });
  let peakBytes = 0;
  for await (const _ of ticks(LOOK_INTERVAL_MS)) {
    assert.is(child.exitCode, null, log);
    peakBytes = Math.max(peakBytes, peakRssBytes(child.pid ?? 0));
    if (performance.now() - listeningAtMs > watchMs) break;
  }
  child.kill();
  await ended;
  process.stdout.write(`peak ${(peakBytes / 1e6).toFixed(1)} MB\n`);
  return peakBytes;
}
