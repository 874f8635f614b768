import { writeFileSync } from 'node:fs';
import { Agent, request } from 'node:https';
import { resolve } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createCa, issueCertificate } from '../../../shim/base/certificate-authority.ts';
import { freePort } from '../../support/free-port.ts';
import { startDaemon } from '../../support/real/daemon.ts';
import { makeTemporaryRoot } from '../../support/real/temporary-root.ts';

const LAUNCHER = resolve(import.meta.dirname, '../../../webhook/shoal-webhook');

/** A replica with certificates from files and nothing to copy: it needs no API server. */
async function startProcess(drainSeconds: number) {
  const root = makeTemporaryRoot('whk');
  const ca = await createCa({ name: 'test', days: 1 });
  const made = await issueCertificate({ ca, ipAddresses: ['127.0.0.1'], days: 1, usage: 'server' });
  writeFileSync(`${root.path}/tls.crt`, made.certificatePem);
  writeFileSync(`${root.path}/tls.key`, made.keyPem);
  const [port, healthPort] = [await freePort(), await freePort()];
  const daemon = startDaemon({
    name: 'webhook',
    command: LAUNCHER,
    args: [
      ...[`--listen=127.0.0.1:${port}`, `--health-listen=127.0.0.1:${healthPort}`],
      ...[`--tls-cert=${root.path}/tls.crt`, `--tls-key=${root.path}/tls.key`],
      `--drain-seconds=${drainSeconds}`,
    ],
    logPath: `${root.path}/log`,
  });
  const health = async (path: string, method = 'GET') => {
    const response = await fetch(`http://127.0.0.1:${healthPort}${path}`, { method });
    return { status: response.status, text: await response.text() };
  };
  const isReady = async () => (await health('/readyz')).status === 200 || undefined;
  await daemon.waitUntil('to be ready', isReady, 30_000);
  const stop = async () => {
    await daemon.stop();
    root.remove();
  };
  return { daemon, port, ca: ca.certificatePem, health, [Symbol.asyncDispose]: stop };
}

function post(port: number, ca: string, agent: Agent): Promise<{ status: number; connection: string }> {
  return new Promise((done, reject) => {
    const headers = { 'content-type': 'application/json' };
    const options = { host: '127.0.0.1', port, ca, agent, path: '/mutate/pod', method: 'POST', headers };
    const client = request(options, (response) => {
      const answer = { status: response.statusCode ?? 0, connection: response.headers.connection ?? '' };
      response.resume().on('end', () => done(answer));
    });
    client.on('error', reject);
    client.end('{}');
  });
}

test('a replica tells its health and metrics on a port of their own', async () => {
  await using replica = await startProcess(0);
  const { health } = replica;
  assert.equal(await health('/healthz'), { status: 200, text: 'ok\n' });
  assert.equal(await health('/readyz?x=1'), { status: 200, text: 'ok\n' });
  assert.is((await health('/healthz', 'POST')).status, 405);
  assert.is((await health('/mutate/pod')).status, 404);
  const { text } = await health('/metrics');
  for (const name of ['admissions_total', 'certificate_not_after_seconds', 'resident_memory_bytes'])
    assert.match(text, `shoal_webhook_${name}`);
});

test('on SIGTERM a replica is unready at once, answers on, sends callers elsewhere, and ends', async () => {
  await using replica = await startProcess(2);
  const { daemon, port, ca, health } = replica;
  const agent = new Agent({ keepAlive: true });
  assert.equal(await post(port, ca, agent), { status: 200, connection: 'keep-alive' });
  daemon.kill('SIGTERM');
  const unready = async () => (await health('/readyz')).status === 503 || undefined;
  await daemon.waitUntil('to be unready', unready, 1_500);
  assert.equal(await post(port, ca, agent), { status: 200, connection: 'close' });
  await daemon.ended;
  agent.destroy();
  const refused = await post(port, ca, new Agent()).catch((error: NodeJS.ErrnoException) => error.code);
  assert.is(refused, 'ECONNREFUSED');
  assert.not.match(daemon.log(), /"error"/);
});

test.run();
