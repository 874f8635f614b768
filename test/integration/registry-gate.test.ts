// time limit: 90 s
import { createHash } from 'node:crypto';
import { Agent, request } from 'undici';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type BuiltImage, buildImage } from '../support/images/build-image.ts';
import { type PushedImage, pushImage } from '../support/images/push-image.ts';
import { randomBytes } from '../support/images/samples.ts';
import { certificateSkipReason, makeCertificate } from '../support/real/certificate.ts';
import { canRun, componentsAvailable } from '../support/real/components.ts';
import { type Registry, startRegistry } from '../support/real/registry.ts';
import {
  type RegistryGate,
  type RegistryGateOptions,
  startRegistryGate,
} from '../support/real/registry-gate.ts';

const LAYER_BYTES = 8_000_000;
/** Connections and the first answer, on a machine that is busy with something else. */
const START_SECONDS_MAX = 0.4;

let registry: Registry;
let image: BuiltImage;
let pushed: PushedImage;

if (canRun(componentsAvailable('registry'))) {
  test.before(async () => {
    registry = await startRegistry();
    const content = randomBytes(LAYER_BYTES, 'gate');
    image = await buildImage({
      layers: [{ entries: [{ name: 'data', content }] }],
      compression: 'none',
      indexed: true,
    });
    pushed = await pushImage(image, { host: registry.host, repository: 'team/app', tag: 'v1' });
  });
  test.after(async () => {
    image.remove();
    await registry.stop();
  });

  test('the gate passes content unchanged and counts it by class', async () => {
    await using gate = await gateTo();
    const manifest = await fetch(`${gate.url}/v2/team/app/manifests/v1`, {
      headers: { accept: image.root.mediaType },
    });
    await manifest.arrayBuffer();
    const blob = await (await fetch(blobUrl(gate))).bytes();
    assert.is(manifest.headers.get('docker-content-digest'), image.root.digest);
    assert.is(digestOf(blob), layerDigest());
    assert.equal(gate.count({ class: 'blob' }), { requests: 1, bytes: blob.length });
    assert.equal(gate.count({ class: 'manifest' }), { requests: 1, bytes: image.root.size });
    assert.is(gate.count().requests, 2);
  });

  test('the gate lets a push through', async () => {
    await using gate = await gateTo();
    await pushImage(image, { host: gate.host, repository: 'other/app', tag: 'v2' });
    const direct = await fetch(`${registry.url}/v2/other/app/manifests/v2`, {
      headers: { accept: image.root.mediaType },
    });
    assert.is(direct.status, 200);
    assert.is(gate.count({ class: 'upload', method: 'PUT' }).requests, image.blobs.length);
  });

  for (const rateBytesPerSecond of [4_000_000, 25_000_000]) {
    test(`the gate holds ${rateBytesPerSecond / 1e6} MB/s over two connections within 3 %`, async () => {
      await using gate = await gateTo({ rateBytesPerSecond });
      const seconds = await timed(() => Promise.all([readAll(blobUrl(gate)), readAll(blobUrl(gate))]));
      const wanted = gate.count({ class: 'blob' }).bytes / rateBytesPerSecond;
      const isWithin = seconds >= wanted * 0.97 && seconds <= wanted * 1.03 + START_SECONDS_MAX;
      assert.ok(isWithin, `${seconds} s instead of ${wanted} s`);
    });
  }

  test('status faults strike after some requests and so often', async () => {
    await using gate = await gateTo();
    const fault = gate.inject({
      fault: { kind: 'status', status: 429, retryAfterSeconds: 2 },
      class: 'blob',
      after: 1,
      times: 1,
    });
    const statuses: number[] = [];
    for (let i = 0; i < 3; i++) statuses.push((await fetch(blobUrl(gate), { method: 'HEAD' })).status);
    assert.equal(statuses, [200, 429, 200]);
    assert.is(fault.hits(), 1);
  });

  test('truncate cuts the connection within the body', async () => {
    await using gate = await gateTo();
    gate.inject({ fault: { kind: 'truncate', afterBytes: 100_000 }, class: 'blob' });
    const got = await readUntilError(blobUrl(gate));
    assert.equal(got, { bytes: 100_000, failed: true });
  });

  test('wrong-byte changes one byte, and the same one in an answer to a Range', async () => {
    await using gate = await gateTo();
    const range = { headers: { range: 'bytes=3999990-4000009' } };
    const right = await (await fetch(blobUrl(gate), range)).bytes();
    gate.inject({ fault: { kind: 'wrong-byte', at: 4_000_000 }, class: 'blob' });
    const wrong = await (await fetch(blobUrl(gate), range)).bytes();
    assert.equal(differences(right, wrong), [10]);
    assert.is.not(digestOf(await (await fetch(blobUrl(gate))).bytes()), layerDigest());
  });

  test('wrong-length announces more or less than comes', async () => {
    await using gate = await gateTo();
    const size = image.layers[0]?.size ?? 0;
    const more = gate.inject({ fault: { kind: 'wrong-length', byBytes: 10 }, class: 'blob' });
    assert.equal(await readUntilError(blobUrl(gate)), { bytes: size, failed: true });
    more.remove();
    gate.inject({ fault: { kind: 'wrong-length', byBytes: -10 }, class: 'blob' });
    assert.equal(await readUntilError(blobUrl(gate)), { bytes: size - 10, failed: false });
  });

  test('hang falls silent before the answer and within the body', async () => {
    await using gate = await gateTo();
    const before = gate.inject({ fault: { kind: 'hang' }, class: 'blob' });
    assert.equal(await readUntilError(blobUrl(gate), 200), { bytes: 0, failed: true });
    before.remove();
    gate.inject({ fault: { kind: 'hang', afterBytes: 50_000 }, class: 'blob' });
    assert.equal(await readUntilError(blobUrl(gate), 400), { bytes: 50_000, failed: true });
  });

  test('redirect, huge-manifest, replace and drop answer in the place of the registry', async () => {
    await using gate = await gateTo();
    await using other = await gateTo();
    const redirect = gate.inject({ fault: { kind: 'redirect', to: other.url }, class: 'blob' });
    assert.is(digestOf(await (await fetch(blobUrl(gate))).bytes()), layerDigest());
    assert.is(other.count({ class: 'blob' }).requests, 1);
    redirect.remove();
    const manifestUrl = `${gate.url}/v2/team/app/manifests/v1`;
    gate.inject({ fault: { kind: 'huge-manifest', sizeBytes: 20_000_000 }, class: 'manifest', times: 1 });
    assert.is((await (await fetch(manifestUrl)).bytes()).length, 20_000_000);
    gate.inject({ fault: { kind: 'replace', body: '{' }, class: 'manifest', times: 1 });
    assert.is(await (await fetch(manifestUrl)).text(), '{');
    gate.inject({ fault: { kind: 'drop' }, class: 'manifest', times: 1 });
    assert.equal(await readUntilError(manifestUrl), { bytes: 0, failed: true });
  });

  test('the token flow gives out tokens for a repository, and they end', async () => {
    const users = { alice: { password: 'secret', repositories: ['team/app'] } };
    await using gate = await gateTo({ token: { users } });
    const challenged = await fetch(blobUrl(gate));
    assert.is(challenged.status, 401);
    const challenge = `Bearer realm="${gate.url}/token",service="registry.test",scope="repository:team/app:pull"`;
    assert.is(challenged.headers.get('www-authenticate'), challenge);
    assert.is(
      (await fetch(`${gate.url}/token`, { headers: { authorization: basic('alice', 'wrong') } })).status,
      401,
    );

    const right = { authorization: await bearer(gate, 'team/app', basic('alice', 'secret')) };
    assert.is(await statusOf(blobUrl(gate), right), 200);
    const elsewhere = { authorization: await bearer(gate, 'victim/app', basic('alice', 'secret')) };
    assert.is(await statusOf(blobUrl(gate), elsewhere), 401);
    assert.is(await statusOf(blobUrl(gate), { authorization: await bearer(gate, 'team/app') }), 401);

    gate.inject({ fault: { kind: 'expire-tokens' }, class: 'blob', times: 1 });
    assert.is(await statusOf(blobUrl(gate), right), 401);
    const seen = gate.requests({ class: 'blob' }).map((request) => request.authorization);
    assert.equal(new Set(seen), new Set(['none', 'bearer']));
  });

  if (canRun(certificateSkipReason())) {
    test('the gate serves https and asks for a client certificate when told to', async () => {
      const { key, cert } = makeCertificate();
      const tls = { key, cert, ca: cert, requestCert: true, rejectUnauthorized: true };
      await using gate = await gateTo({ tls });
      const trusting = new Agent({ connect: { ca: cert } });
      const known = new Agent({ connect: { ca: cert, key, cert } });
      const head = (dispatcher: Agent) => request(blobUrl(gate), { method: 'HEAD', dispatcher });
      assert.is((await head(known)).statusCode, 200);
      assert.instance(await head(trusting).catch((error) => error), Error);
      await Promise.all([trusting.destroy(), known.destroy()]);
    });
  }

  test('a registry with a password refuses a push without it', async () => {
    const auth = { user: 'bob', password: 'pass word' };
    await using guarded = await startRegistry({ auth });
    const target = { host: guarded.host, repository: 'a', tag: 'v1' };
    const refused = await pushImage(image, target).catch((error: Error) => error);
    assert.match((refused as Error).message, '401');
    await pushImage(image, { ...target, auth });
    assert.ok(guarded.accessLog().some((line) => line.includes('"PUT /v2/a/manifests/v1 HTTP/1.1" 201')));
  });
}

test.run();

function gateTo(options: Omit<RegistryGateOptions, 'upstream'> = {}): Promise<RegistryGate> {
  return startRegistryGate({ upstream: new URL(pushed.manifestUrl).origin, ...options });
}

function layerDigest(): string {
  return image.layers[0]?.digest ?? '';
}

function blobUrl(gate: RegistryGate): string {
  return `${gate.url}/v2/team/app/blobs/${layerDigest()}`;
}

function digestOf(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

function differences(a: Uint8Array, b: Uint8Array): number[] {
  return [...a.keys()].filter((position) => a[position] !== b[position]);
}

async function readAll(url: string): Promise<void> {
  for await (const _ of (await fetch(url)).body ?? []);
}

async function readUntilError(url: string, timeoutMs = 5_000): Promise<{ bytes: number; failed: boolean }> {
  let bytes = 0;
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(timeoutMs) });
    for await (const chunk of response.body ?? []) bytes += chunk.length;
    return { bytes, failed: false };
  } catch {
    return { bytes, failed: true };
  }
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const startedMs = performance.now();
  await work();
  return (performance.now() - startedMs) / 1000;
}

async function statusOf(url: string, headers: Record<string, string>): Promise<number> {
  return (await fetch(url, { method: 'HEAD', headers })).status;
}

function basic(user: string, password: string): string {
  return `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
}

async function bearer(gate: RegistryGate, repository: string, authorization?: string): Promise<string> {
  const query = new URLSearchParams({ service: 'registry.test', scope: `repository:${repository}:pull` });
  const headers = authorization === undefined ? {} : { authorization };
  const response = await fetch(`${gate.url}/token?${query}`, { headers });
  return `Bearer ${((await response.json()) as { token: string }).token}`;
}
