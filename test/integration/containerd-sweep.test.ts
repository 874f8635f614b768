// time limit: 120 s
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openContainerdStore } from '../../shim/containerd/containerd-store.ts';
import type { ImagePlan } from '../../shim/store/image-store.ts';
import { canRun, containerdSkipReason } from '../support/real/components.ts';
import { runCrictl } from '../support/real/crictl.ts';
import { unpackForSession } from '../support/real/import-image.ts';
import {
  containerdState,
  type ImportSite,
  startImportSite,
  testedVersion,
} from '../support/real/import-site.ts';

const signal = new AbortController().signal;
const KILLS = 8;
const COLLECTION_WAIT_MS = 10_000;
const EMPTY = { images: [], blobs: [], snapshots: [], leases: [], ingests: [] };

if (process.env.IMPORT_PLAN !== undefined) await importAsChild(process.env.IMPORT_PLAN);
else if (canRun(containerdSkipReason(testedVersion, 'crictl-go'))) {
  test('after a kill at any point a sweep leaves nothing but complete images', async () => {
    await using site = await startImportSite();
    const wholeMs = await timeWholeImport(site);
    for (let round = 0; round < KILLS; round++) {
      const { child, ended } = startChild(site);
      await line(child, 'open');
      child.stdin?.write('go\n');
      await sleep((wholeMs * round) / KILLS);
      child.kill('SIGKILL');
      await ended;
      await site.store.sweep(signal);
      assert.equal(stagingNames(site), []);
      const { images, leases, ingests } = await containerdState(site.containerd);
      assert.equal([leases, ingests], [[], []]);
      if (images.length > 0) await removeComplete(site);
      await waitForEmpty(site);
    }
  });

  test('a sweep leaves alone what a live process is importing', async () => {
    await using site = await startImportSite();
    const { child, ended } = startChild(site);
    await line(child, 'open');
    const before = await containerdState(site.containerd);
    assert.is(before.leases.length, 1);
    assert.equal(await site.store.sweep(signal), { ingests: 0, snapshots: 0, leases: 0, directories: 0 });
    assert.equal(await containerdState(site.containerd), before);
    child.stdin?.write('go\n');
    await line(child, 'done');
    await ended;
    assert.is((await containerdState(site.containerd)).images.length, 3);
    assert.equal(stagingNames(site), []);
  });
}

if (process.env.IMPORT_PLAN === undefined) test.run();

/** Imports as its parent says: opens, waits for a line, brings the layers, finishes. */
async function importAsChild(json: string): Promise<void> {
  const { socket, plan, folder } = reviveBytes(json) as { socket: string; plan: ImagePlan; folder: string };
  const store = await openContainerdStore({ socket });
  const session = await store.open(plan, signal);
  const unpacked = plan.layers.map((layer, index) => {
    const blobPath = `${folder}/${layer.descriptor.digest.slice(7)}`;
    return unpackForSession(session, index, layer, blobPath, signal);
  });
  const layers = await Promise.all(unpacked);
  process.stdout.write('open\n');
  await once(process.stdin, 'data');
  process.stdin.pause();
  await Promise.all(layers.map((layer, index) => session.addLayer(index, layer, signal)));
  await session.finish(signal);
  await store.close();
  process.stdout.write('done\n');
}

/** From the unpacked trees to the end, ms. */
async function timeWholeImport(site: ImportSite): Promise<number> {
  const { child, ended } = startChild(site);
  await line(child, 'open');
  const startMs = performance.now();
  child.stdin?.write('go\n');
  await line(child, 'done');
  const wholeMs = performance.now() - startMs;
  await ended;
  await removeComplete(site);
  await waitForEmpty(site);
  return wholeMs;
}

function startChild({ containerd, plan, blobPath }: ImportSite): {
  child: ChildProcess;
  ended: Promise<unknown>;
} {
  const folder = blobPath('sha256:').replace(/\/$/, '');
  const IMPORT_PLAN = keepBytes({ socket: containerd.socket, plan, folder });
  const child = spawn(process.execPath, ['--no-warnings', import.meta.filename], {
    env: { ...process.env, IMPORT_PLAN },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  return { child, ended: once(child, 'exit') };
}

function keepBytes(value: unknown): string {
  return JSON.stringify(value, (_key, each) =>
    each?.type === 'Buffer' ? { base64: Buffer.from(each.data).toString('base64') } : each,
  );
}

function reviveBytes(json: string): unknown {
  return JSON.parse(json, (_key, each) =>
    typeof each?.base64 === 'string' ? Buffer.from(each.base64, 'base64') : each,
  );
}

async function line(child: ChildProcess, wanted: string): Promise<void> {
  if (child.stdout === null) throw new Error('no standard output');
  const lines = createInterface({ input: child.stdout });
  const [text] = await once(lines, 'line', { signal: AbortSignal.timeout(20_000) });
  assert.is(text, wanted);
}

/** All that is in the staging root but the lock of this process. */
function stagingNames({ store }: ImportSite): string[] {
  const names = readdirSync(store.stagingRoot ?? '');
  assert.is(names.filter((name) => name.endsWith('.lock')).length, 1);
  return names.filter((name) => !name.endsWith('.lock'));
}

async function removeComplete({ containerd, cri, image }: ImportSite): Promise<void> {
  const checked = await containerd.ctr('images', 'check');
  assert.not.match(checked, /incomplete|false/);
  await runCrictl(cri, 'rmi', image.config.digest);
}

async function waitForEmpty({ containerd }: ImportSite): Promise<void> {
  const deadlineMs = performance.now() + COLLECTION_WAIT_MS;
  for (;;) {
    const state = await containerdState(containerd);
    if (JSON.stringify(state) === JSON.stringify(EMPTY) || performance.now() > deadlineMs)
      return assert.equal(state, EMPTY);
    await sleep(50);
  }
}
