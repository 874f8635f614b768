// time limit: 300 s
import { renameSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { connect } from 'node:tls';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createCa, issueCertificate } from '../../shim/base/certificate-authority.ts';
import { freePort } from '../support/free-port.ts';
import { canRun } from '../support/real/components.ts';
import { startDaemon } from '../support/real/daemon.ts';
import { type KubeApi, startKubeApi } from '../support/real/kube-api.ts';
import { makeTemporaryRoot } from '../support/real/temporary-root.ts';
import {
  CONFIG_KEY,
  installWebhook,
  MODE_KEY,
  OWN_NAMESPACE,
  podManifest,
  startReplica,
  webhookSkipReason,
} from '../support/webhook.ts';

const LAUNCHER = resolve(import.meta.dirname, '../../webhook/shoal-webhook');
const DAY_SECONDS = 86_400;
/** Lives short enough to see several certificates and a change of authority. */
const SHORT_LIVES = [
  `--authority-days=${60 / DAY_SECONDS}`,
  `--certificate-days=${20 / DAY_SECONDS}`,
  '--settle-seconds=4',
  '--poll-seconds=0.5',
];
/** Two authorities end by then: each is followed when a third of its minute is left. */
const WATCHED_MS = 100_000;

async function certificates(api: KubeApi): Promise<{ authority: string; serving: string }> {
  const text = await api.kubectl.run(
    'get',
    'secret',
    'shoal-webhook-certificates',
    '-n',
    OWN_NAMESPACE,
    '-o',
    'json',
  );
  const { data } = JSON.parse(text);
  return { authority: data['ca.crt'], serving: data['tls.crt'] };
}

/** Whatever fails at the webhook now fails the creation of the pod, where it would else pass unseen. */
async function failClosed(api: KubeApi): Promise<void> {
  const patch = [0, 1].map((index) => ({
    op: 'replace',
    path: `/webhooks/${index}/failurePolicy`,
    value: 'Fail',
  }));
  const name = 'shoal-webhook';
  await api.kubectl.run(
    'patch',
    'mutatingwebhookconfiguration',
    name,
    '--type=json',
    '-p',
    JSON.stringify(patch),
  );
}

if (canRun(webhookSkipReason())) {
  test('certificates and authorities change, and no admission fails over it', async () => {
    await using api = await startKubeApi();
    const webhook = await installWebhook(api, { namespaces: ['one'] });
    await using first = await startReplica(webhook, 'first', SHORT_LIVES);
    await using second = await startReplica(webhook, 'second', SHORT_LIVES);
    await failClosed(api);
    const pod = podManifest('one', 'dry', { labels: { [MODE_KEY]: 'p2p' } });
    const seen = { authorities: new Set<string>(), servings: new Set<string>() };
    const deadlineMs = performance.now() + WATCHED_MS;
    let admitted = 0;
    while (performance.now() < deadlineMs && seen.authorities.size < 3) {
      const text = await api.kubectl.pipe([pod], 'create', '--dry-run=server', '-o', 'json', '-f', '-');
      assert.ok(text.includes(CONFIG_KEY));
      admitted++;
      const { authority, serving } = await certificates(api);
      seen.authorities.add(authority);
      seen.servings.add(serving);
    }
    assert.ok(seen.authorities.size >= 2, `${seen.authorities.size} authorities`);
    assert.ok(seen.servings.size >= 4, `${seen.servings.size} certificates`);
    assert.ok(admitted > 20, `${admitted} pods`);
    const failures = `${first.log()}${second.log()}`.split('\n').filter((line) => line.includes('"error"'));
    assert.equal(failures, []);
  });

  test('certificates from files are read again when they change', async () => {
    using root = makeTemporaryRoot('crt');
    const ca = await createCa({ name: 'files', days: 1 });
    const [certificatePath, keyPath] = [`${root.path}/tls.crt`, `${root.path}/tls.key`];
    const write = async () => {
      const made = await issueCertificate({ ca, ipAddresses: ['127.0.0.1'], days: 1, usage: 'server' });
      for (const [path, text] of [
        [certificatePath, made.certificatePem],
        [keyPath, made.keyPem],
      ] as const) {
        writeFileSync(`${path}.new`, text);
        renameSync(`${path}.new`, path);
      }
    };
    await write();
    const port = await freePort();
    await using daemon = startDaemon({
      name: 'webhook',
      command: LAUNCHER,
      args: [
        ...[`--listen=127.0.0.1:${port}`, '--health-listen=127.0.0.1:0', '--drain-seconds=0'],
        ...[`--tls-cert=${certificatePath}`, `--tls-key=${keyPath}`, '--poll-seconds=0.1'],
      ],
      logPath: `${root.path}/log`,
    });
    const serial = () => servedSerial(port, ca.certificatePem);
    const first = await daemon.waitUntil('to serve', serial, 30_000);
    await write();
    const changed = async () => (await serial()) !== first || undefined;
    await daemon.waitUntil('to serve the new certificate', changed, 10_000);
  });
}

function servedSerial(port: number, ca: string): Promise<string> {
  return new Promise((done, reject) => {
    const socket = connect({ host: '127.0.0.1', port, ca }, () => {
      done(socket.getPeerCertificate().serialNumber);
      socket.destroy();
    });
    socket.on('error', reject);
  });
}

test.run();
