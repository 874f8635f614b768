import { request } from 'node:https';
import { connect } from 'node:tls';
import { pino } from 'pino';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  type CertificateAuthority,
  createCa,
  issueCertificate,
} from '../../../shim/base/certificate-authority.ts';
import { DEFAULT_P2P_HOST_RULES } from '../../../shim/base/p2p-address.ts';
import { annotationKeys } from '../../../webhook/annotation-keys.ts';
import { createMetrics } from '../../../webhook/metrics.ts';
import { BODY_BYTES_MAX } from '../../../webhook/request-body.ts';
import { startWebhookServer, type WebhookServer } from '../../../webhook/server.ts';

const UID = '705ab4f5-6393-11e8-b7cc-42010a800002';
const JSON_TYPE = { 'content-type': 'application/json' };

interface Site extends AsyncDisposable {
  readonly server: WebhookServer;
  readonly ca: CertificateAuthority;
  readonly metrics: ReturnType<typeof createMetrics>;
}

const ca = await createCa({ name: 'test', days: 1 });

function issue(authority: CertificateAuthority) {
  return issueCertificate({ ca: authority, ipAddresses: ['127.0.0.1'], days: 1, usage: 'server' });
}

async function startSite(bufferedBytesMax?: number): Promise<Site> {
  const metrics = createMetrics();
  const server = await startWebhookServer({
    listen: { host: '127.0.0.1', port: 0 },
    keyPair: await issue(ca),
    admission: {
      keys: annotationKeys('k8s.aliyun.com'),
      limits: {},
      rewriteImages: false,
      hostRules: DEFAULT_P2P_HOST_RULES,
    },
    metrics,
    logger: pino({ level: 'silent' }),
    ...(bufferedBytesMax !== undefined && { bufferedBytesMax }),
  });
  return { server, ca, metrics, [Symbol.asyncDispose]: () => server.close(0) };
}

function review(uid = UID): string {
  return JSON.stringify({
    kind: 'AdmissionReview',
    apiVersion: 'admission.k8s.io/v1',
    request: {
      uid,
      kind: { group: '', version: 'v1', kind: 'Pod' },
      operation: 'CREATE',
      object: {
        metadata: { labels: { 'k8s.aliyun.com/image-accelerate-mode': 'p2p' } },
        spec: { containers: [{ image: 'nginx' }] },
      },
    },
  });
}

interface Sent {
  readonly path?: string;
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Buffer;
  readonly authority?: string;
}

function send(site: Site, sent: Sent = {}): Promise<{ status: number; text: string; connection: string }> {
  const { path = '/mutate/pod', method = 'POST', headers = JSON_TYPE, body = review() } = sent;
  return new Promise((resolve, reject) => {
    const options = {
      host: '127.0.0.1',
      port: site.server.port,
      agent: false,
      ca: sent.authority ?? site.ca.certificatePem,
    };
    const client = request({ ...options, path, method, headers }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk) => chunks.push(chunk));
      response.on('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          text: Buffer.concat(chunks).toString(),
          connection: response.headers.connection ?? '',
        }),
      );
    });
    client.on('error', reject);
    client.end(body);
  });
}

async function responseOf(site: Site, sent: Sent) {
  const { status, text } = await send(site, sent);
  assert.is(status, 200, text);
  return JSON.parse(text).response;
}

async function countOf(site: Site, result: string): Promise<number> {
  const text = await site.metrics.registry.metrics();
  return Number(new RegExp(`result="${result}"\\} (\\d+)`).exec(text)?.[1] ?? 0);
}

test('startWebhookServer() answers on its two paths, whatever the query', async () => {
  await using site = await startSite();
  for (const path of ['/mutate/pod', '/mutate/namespace', '/mutate/pod?timeout=5s']) {
    const response = await responseOf(site, { path });
    assert.is(response.uid, UID);
    assert.is(response.allowed, true);
    assert.is(response.patchType, 'JSONPatch');
  }
  assert.is((await send(site, { path: '/' })).status, 404);
  assert.is((await send(site, { path: '/mutate/pod/x' })).status, 404);
  assert.is(await countOf(site, 'opted-in'), 2);
});

test('startWebhookServer() allows what it cannot read, and names the request where it can', async () => {
  await using site = await startSite();
  const cases: [string, Sent, string][] = [
    ['wrong-content-type', { headers: { 'content-type': 'text/plain' } }, UID],
    ['wrong-content-type', { headers: {} }, UID],
    ['wrong-content-type', { headers: { ...JSON_TYPE, 'content-encoding': 'gzip' } }, UID],
    ['wrong-method', { method: 'PUT' }, UID],
    ['wrong-method', { method: 'GET', headers: {}, body: '' }, ''],
    ['not-json', { body: review().slice(0, -10) }, UID],
    ['not-json', { body: Buffer.from([0xff, 0x00, 0x7b]) }, ''],
    ['not-a-review', { body: '{}' }, ''],
  ];
  for (const [result, sent, uid] of cases) {
    const before = await countOf(site, result);
    assert.equal(await responseOf(site, sent), { uid, allowed: true });
    assert.is(await countOf(site, result), before + 1, result);
  }
  const charset = { 'content-type': 'Application/JSON; charset=utf-8' };
  assert.is((await responseOf(site, { headers: charset })).patchType, 'JSONPatch');
});

test('startWebhookServer() takes a body of its limit and allows a larger one unseen', async () => {
  await using site = await startSite();
  const fits = await responseOf(site, { body: review().padEnd(BODY_BYTES_MAX) });
  assert.is(fits.patchType, 'JSONPatch');
  assert.equal(await responseOf(site, { body: review().padEnd(BODY_BYTES_MAX + 1) }), {
    uid: UID,
    allowed: true,
  });
  assert.is(await countOf(site, 'too-large'), 1);
});

test('startWebhookServer() allows unseen what comes when too much is being read', async () => {
  await using site = await startSite(1_000);
  const headers = { ...JSON_TYPE, 'content-length': '2000' };
  const options = { host: '127.0.0.1', port: site.server.port, ca: site.ca.certificatePem, agent: false };
  const slow = request({ ...options, path: '/mutate/pod', method: 'POST', headers });
  slow.on('error', () => {});
  slow.write(review().padEnd(999));
  const becomes = async (patched: boolean) => {
    for (let tries = 0; tries < 200; tries++)
      if (((await responseOf(site, {})).patchType !== undefined) === patched) return;
    assert.unreachable(`it was never ${patched ? 'served' : 'busy'}`);
  };
  await becomes(false);
  slow.destroy();
  await becomes(true);
  assert.ok((await countOf(site, 'busy')) > 0);
});

test('startWebhookServer() answers in time to who never ends', async () => {
  await using site = await startSite();
  const startedMs = performance.now();
  const text = await new Promise<string>((resolve, reject) => {
    const headers = { ...JSON_TYPE, 'content-length': '100000' };
    const options = { host: '127.0.0.1', port: site.server.port, ca: site.ca.certificatePem, agent: false };
    const client = request({ ...options, path: '/mutate/pod', method: 'POST', headers }, (response) => {
      response.setEncoding('utf8').on('data', (chunk) => {
        resolve(chunk);
        client.destroy();
      });
    });
    client.on('error', reject);
    client.write(review().slice(0, 300));
  });
  assert.equal(JSON.parse(text).response, { uid: UID, allowed: true });
  assert.ok(performance.now() - startedMs < 5_000, 'before the API server gives up');
});

test('useKeyPair() serves a new certificate while old connections go on', async () => {
  await using site = await startSite();
  const old = connect({ host: '127.0.0.1', port: site.server.port, ca: site.ca.certificatePem });
  await new Promise<void>((resolve) => old.once('secureConnect', resolve));
  const other = await createCa({ name: 'other', days: 1 });
  site.server.useKeyPair(await issue(other));
  assert.is((await send(site, { authority: other.certificatePem })).status, 200);
  const refused = await send(site).then(
    () => 'trusted',
    () => 'refused',
  );
  assert.is(refused, 'refused');
  const body = review();
  old.write(
    `POST /mutate/pod HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
  );
  const answer = await new Promise<string>((resolve) => old.once('data', (chunk) => resolve(String(chunk))));
  assert.match(answer, /^HTTP\/1.1 200/);
  old.destroy();
});

test('useKeyPair() keeps the pair in use when the new one is none', async () => {
  await using site = await startSite();
  const [one, two] = [await issue(ca), await issue(ca)];
  for (const keyPair of [
    { certificatePem: 'x', keyPem: 'y' },
    { certificatePem: one.certificatePem, keyPem: two.keyPem },
  ])
    assert.throws(() => site.server.useKeyPair(keyPair), /Cannot use "certificate and key"/);
  assert.is((await send(site)).status, 200);
});

test('close() finishes what is under way and asks callers to go elsewhere', async () => {
  const site = await startSite();
  const headers = { ...JSON_TYPE, 'content-length': String(review().length) };
  const options = { host: '127.0.0.1', port: site.server.port, ca: site.ca.certificatePem, agent: false };
  const client = request({ ...options, path: '/mutate/pod', method: 'POST', headers });
  const answered = new Promise<number>((resolve, reject) => {
    client.on('response', (response) => {
      response.resume().on('end', () => resolve(response.statusCode ?? 0));
    });
    client.on('error', reject);
  });
  await new Promise<void>((resolve) => client.write(review().slice(0, 10), () => resolve()));
  const closed = site.server.close(300);
  assert.is((await send(site)).connection, 'close', 'it still answers while it drains');
  await new Promise<void>((resolve) => setTimeout(resolve, 400));
  const refused = await send(site).catch((error: NodeJS.ErrnoException) => error.code);
  assert.is(refused, 'ECONNREFUSED');
  client.end(review().slice(10));
  assert.is(await answered, 200);
  await closed;
});

test.run();
