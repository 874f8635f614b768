import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { RawDocument } from '../../../shim/base/descriptor.ts';
import { type Digest, digestOf, hexOf } from '../../../shim/base/digest.ts';
import { ErrorCode, type ShoalError } from '../../../shim/base/errors.ts';
import type { ImagePlan } from '../../../shim/store/image-store.ts';
import { LayoutStore } from '../../../shim/store/layout-store.ts';

const signal = new AbortController().signal;
const CRASHES = 6;
const CRASH_AFTER_MS_MAX = 120;

let folder = '';
let directory = '';

if (process.send === undefined) {
  test.before.each(() => {
    folder = mkdtempSync(join(tmpdir(), 'shoal-layout-'));
    directory = join(folder, 'layout');
  });
  test.after.each(() => rmSync(folder, { recursive: true, force: true }));

  test('LayoutStore.open() makes a layout that image tools know', async () => {
    const store = await LayoutStore.open(directory);
    assert.equal(JSON.parse(readFileSync(join(directory, 'oci-layout'), 'utf8')), {
      imageLayoutVersion: '1.0.0',
    });
    assert.equal(indexOf(directory), []);
    await store.close();
  });

  test('an import puts blobs, documents, root and names in place; a second one needs nothing', async () => {
    const store = await LayoutStore.open(directory);
    const plan = planOf('app', ['layer']);
    assert.equal([...(await store.open(plan, signal)).missing], [0]);
    await importInto(store, plan);
    for (const { digest } of [plan.layers[0]?.descriptor, plan.config.descriptor, plan.target] as const as {
      digest: Digest;
    }[])
      assert.ok(existsSync(store.blobPath(digest)));
    assert.is(readFileSync(join(store.rootPath(plan.config.descriptor.digest), '0'), 'utf8'), 'layer');
    assert.is(statSync(store.rootPath(plan.config.descriptor.digest)).mode & 0o777, 0o755);
    assert.equal(
      indexOf(directory).map((entry) => entry.annotations['org.opencontainers.image.ref.name']),
      plan.names,
    );
    assert.equal([...(await store.open(plan, signal)).missing], []);
    await store.close();
    const again = await LayoutStore.open(directory);
    assert.equal([...(await again.open(plan, signal)).missing], []);
    await again.close();
  });

  test('a blob that one host gave is missing for another host', async () => {
    const store = await LayoutStore.open(directory);
    const plan = planOf('app', ['layer']);
    await importInto(store, plan);
    assert.equal([...(await store.open({ ...plan, host: 'other.test' }, signal)).missing], [0]);
    await store.close();
  });

  test('a name that moves to another image names that one alone', async () => {
    const store = await LayoutStore.open(directory);
    await importInto(store, planOf('app', ['one']));
    const second = planOf('app', ['two']);
    await importInto(store, second);
    const named = indexOf(directory).filter(
      (entry) => entry.annotations['org.opencontainers.image.ref.name'] === 'host.test/app:v1',
    );
    assert.equal(
      named.map((entry) => entry.digest),
      [second.target.digest],
    );
    await store.close();
  });

  test('imports at the same time are all in the index', async () => {
    const store = await LayoutStore.open(directory);
    const plans = Array.from({ length: 12 }, (_, index) => planOf(`app${index}`, ['shared', `own ${index}`]));
    await Promise.all(plans.map((plan) => importInto(store, plan)));
    assert.is(indexOf(directory).length, 24);
    assert.equal(readdirSync(join(directory, '.staging')), []);
    await store.close();
  });

  test('an abort takes back what was staged, twice and after the end too', async () => {
    const store = await LayoutStore.open(directory);
    const plan = planOf('app', ['layer']);
    const session = await store.open(plan, signal);
    writeFileSync(join(await session.stagingDirectory(0, signal), 'half'), 'half');
    await session.abort();
    await session.abort();
    assert.equal(readdirSync(join(directory, '.staging')), []);
    assert.equal(indexOf(directory), []);
    await importInto(store, plan);
    await store.close();
  });

  test('a cancelled import does nothing more', async () => {
    const store = await LayoutStore.open(directory);
    const session = await store.open(planOf('app', ['layer']), signal);
    const gone = AbortSignal.abort();
    for (const step of [() => session.stagingDirectory(0, gone), () => session.finish(gone)]) {
      const failure = await step().catch((error: ShoalError) => error);
      assert.is((failure as ShoalError).code, ErrorCode.Cancelled);
    }
    await session.abort();
    await store.close();
  });

  test('LayoutStore.open() refuses a layout that is open, and what is no layout', async () => {
    const store = await LayoutStore.open(directory);
    const second = await LayoutStore.open(directory).catch((error: ShoalError) => error);
    assert.is((second as ShoalError).code, ErrorCode.StoreUnavailable);
    assert.match((second as ShoalError).message, 'another process has it open');
    await store.close();
    for (const [text, found] of [
      ['{"manifests": 3}', 'no list of manifests'],
      ['{"manifests":', 'not JSON'],
    ] as const) {
      writeFileSync(join(directory, 'index.json'), text);
      const failure = await LayoutStore.open(directory).catch((error: ShoalError) => error);
      assert.is((failure as ShoalError).code, ErrorCode.StoreFailed);
      assert.match((failure as ShoalError).message, found);
      assert.is(readFileSync(join(directory, 'index.json'), 'utf8'), text, 'it was left as it was');
    }
    writeFileSync(join(directory, 'index.json'), '{"manifests": []}');
    await (await LayoutStore.open(directory)).close();
  });

  test(`killed ${CRASHES} times at random moments: all that the index names is whole, nothing half-done stays`, async () => {
    let images = 0;
    for (let crash = 0; crash < CRASHES; crash += 1) {
      const child = fork(import.meta.filename, [directory, String(crash)]);
      await once(child, 'message');
      await sleep(Math.random() * CRASH_AFTER_MS_MAX);
      await kill(child);
      const store = await LayoutStore.open(directory);
      const entries = indexOf(directory);
      assert.ok(entries.length >= images, 'no image is lost');
      images = entries.length;
      for (const { digest, size } of entries) assertWhole(store, digest as Digest, size);
      assert.equal(readdirSync(join(directory, '.staging')), []);
      const strange = readdirSync(join(directory, 'blobs/sha256')).filter(
        (name) => !/^[0-9a-f]{64}$/.test(name),
      );
      assert.equal(strange, [], 'files that are no blobs');
      await store.close();
    }
    assert.ok(images > 0, 'the child did import');
  });

  test.run();
} else await importUntilKilled();

/** What the child does. */
async function importUntilKilled(): Promise<void> {
  const [, , where = '', round = ''] = process.argv;
  folder = join(where, '..');
  const store = await LayoutStore.open(where);
  await importInto(store, planOf(`first-${round}`, ['first', round]));
  process.send?.('ready');
  for (let count = 0; ; count += 1)
    await importInto(store, planOf(`app-${round}-${count}`, ['shared', `${round} ${count}`]));
}

async function kill(child: ChildProcess): Promise<void> {
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}

async function importInto(store: LayoutStore, plan: ImagePlan): Promise<void> {
  const session = await store.open(plan, signal);
  for (const index of session.missing) {
    const stagingDirectory = await session.stagingDirectory(index, signal);
    const text = plan.layers[index]?.descriptor.annotations?.text ?? '';
    writeFileSync(join(stagingDirectory, String(index)), text);
    const blobPath = join(folder, 'cache', hexOf(plan.layers[index]?.descriptor.digest as Digest));
    mkdirSync(join(folder, 'cache'), { recursive: true });
    // The store may have linked the one before: nobody writes to that again.
    rmSync(blobPath, { force: true });
    writeFileSync(blobPath, text);
    await session.addLayer(index, { blobPath, stagingDirectory, impliedDirectories: [] }, signal);
  }
  await session.finish(signal);
}

function assertWhole(store: LayoutStore, digest: Digest, sizeBytes: number): void {
  const bytes = readFileSync(store.blobPath(digest));
  assert.equal([bytes.length, digestOf(bytes)], [sizeBytes, digest]);
  const manifest = JSON.parse(bytes.toString()) as Record<'config' | 'layers', never>;
  const { config, layers } = manifest as { config: { digest: Digest }; layers: { digest: Digest }[] };
  for (const part of [config, ...layers])
    assert.is(digestOf(readFileSync(store.blobPath(part.digest))), part.digest);
  assert.is(readdirSync(store.rootPath(config.digest)).length, layers.length);
}

function planOf(name: string, texts: readonly string[]): ImagePlan {
  const layers = texts.map((text) => ({
    descriptor: {
      mediaType: 'application/vnd.oci.image.layer.v1.tar',
      digest: digestOf(text),
      sizeBytes: text.length,
      annotations: { text },
    },
    diffId: digestOf(text),
    chainId: digestOf(text),
    compression: 'none' as const,
  }));
  const config = documentOf('config', { name, texts });
  const manifest = documentOf('manifest', {
    config: { digest: config.descriptor.digest },
    layers: layers.map(({ descriptor }) => ({ digest: descriptor.digest })),
  });
  return {
    names: [`host.test/${name}@${manifest.descriptor.digest}`, `host.test/${name}:v1`],
    target: manifest.descriptor,
    host: 'host.test',
    repository: name,
    index: undefined,
    manifest,
    config,
    layers,
    runtimeHandler: undefined,
  };
}

function documentOf(kind: string, content: object): RawDocument {
  const bytes = Buffer.from(JSON.stringify(content));
  const mediaType = `application/vnd.oci.image.${kind}.v1+json`;
  return { descriptor: { mediaType, digest: digestOf(bytes), sizeBytes: bytes.length }, bytes };
}

interface IndexEntry {
  readonly digest: string;
  readonly size: number;
  readonly annotations: Readonly<Record<string, string>>;
}

function indexOf(layout: string): IndexEntry[] {
  return JSON.parse(readFileSync(join(layout, 'index.json'), 'utf8')).manifests;
}
