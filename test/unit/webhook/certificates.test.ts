import { X509Certificate } from 'node:crypto';
import { renameSync, writeFileSync } from 'node:fs';
import { pino } from 'pino';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createCa, issueCertificate } from '../../../shim/base/certificate-authority.ts';
import { readKeyPair, watchKeyPair } from '../../../webhook/certificate-files.ts';
import { bundleOf, type CertificateState, planCertificates } from '../../../webhook/certificate-plan.ts';
import { stateFromData, stateToData } from '../../../webhook/certificate-secret.ts';
import type { KeyPair } from '../../../webhook/key-pair.ts';
import { makeTemporaryRoot } from '../../support/real/temporary-root.ts';

const DAY_MS = 86_400_000;
const hosts = ['shoal-webhook.shoal-system.svc', '192.0.2.7'];
const times = { authorityMs: 30 * DAY_MS, servingMs: 9 * DAY_MS, settleMs: 60_000 };
const [ca, otherCa] = [await createCa({ name: 'a', days: 30 }), await createCa({ name: 'a', days: 30 })];
const startMs = Date.now();

async function issue(authority = ca, days = 9, dnsNames = hosts.slice(0, 1)): Promise<KeyPair> {
  return issueCertificate({ ca: authority, dnsNames, ipAddresses: hosts.slice(1), days, usage: 'server' });
}

function plan(
  state: CertificateState,
  afterDays = 0,
  change: { bundleIsKnown?: boolean; hosts?: string[] } = {},
) {
  const context = { nowMs: startMs + afterDays * DAY_MS, times, hosts, bundleIsKnown: true, ...change };
  return planCertificates(state, context);
}

const steady: CertificateState = { authority: ca, serving: await issue(), changedAtMs: 0 };

test('planCertificates() starts from nothing, from damage and from an authority that has ended', () => {
  assert.is(plan({}), 'start');
  assert.is(plan({ authority: { certificatePem: 'x', keyPem: 'y' } }), 'start');
  assert.is(plan(steady, 31), 'start');
});

test('planCertificates() leaves alone what is good', () => {
  assert.is(plan(steady), 'nothing');
  assert.is(plan(steady, 5), 'nothing');
});

test('planCertificates() issues again in time, for other names, and for another authority', async () => {
  assert.is(plan({ authority: ca }), 'issue');
  assert.is(plan(steady, 7), 'issue');
  assert.is(plan(steady, 0, { hosts: [...hosts, 'more.example'] }), 'issue');
  assert.is(plan(steady, 0, { hosts: ['192.0.2.8'] }), 'issue');
  assert.is(
    plan({ ...steady, serving: await issue(otherCa) }),
    'issue',
    'the same subject is not the same key',
  );
});

test('planCertificates() changes the authority step by step, each only when all know the one before', async () => {
  const serving = await issue(ca, 29);
  const old: CertificateState = { authority: ca, serving, changedAtMs: 0 };
  assert.is(plan(old, 19), 'nothing');
  assert.is(plan(old, 21), 'prepare');
  const nowMs = startMs + 21 * DAY_MS;
  const prepared = { ...old, next: otherCa, changedAtMs: nowMs };
  assert.is(plan(prepared, 21), 'nothing', 'not settled');
  assert.is(plan(prepared, 22, { bundleIsKnown: false }), 'nothing', 'settled, but not known');
  assert.is(plan(prepared, 22), 'promote');
  const promotedMs = startMs + 22 * DAY_MS;
  const { certificatePem: previousPem } = ca;
  const promoted = {
    authority: otherCa,
    previousPem,
    serving: await issue(otherCa, 29),
    changedAtMs: promotedMs,
  };
  assert.is(plan(promoted, 22), 'nothing');
  assert.is(plan(promoted, 23, { bundleIsKnown: false }), 'nothing');
  assert.is(plan(promoted, 23), 'forget');
});

test('bundleOf() holds everyone who signs what may be served', () => {
  const bundle = bundleOf({ ...steady, next: otherCa, previousPem: ca.certificatePem });
  assert.is(bundle.match(/BEGIN CERTIFICATE/g)?.length, 3);
  assert.is(bundleOf(steady).trim(), ca.certificatePem.trim());
  assert.is(bundleOf({}), '');
});

test('stateFromData() reads what stateToData() wrote, and takes damage as missing', () => {
  const state = { ...steady, next: otherCa, previousPem: ca.certificatePem, changedAtMs: 7 };
  const data = stateToData(state);
  assert.equal(stateFromData(data), {
    ...state,
    serving: { certificatePem: steady.serving?.certificatePem, keyPem: steady.serving?.keyPem },
  });
  assert.equal(stateFromData({}), {});
  const damaged = { ...data, 'tls.key': data['ca.key'] ?? '', 'ca.crt': 'AAAA', 'changed-at': 'eA==' };
  const { serving, authority, changedAtMs } = stateFromData(damaged);
  assert.equal([serving, authority, changedAtMs], [undefined, undefined, undefined]);
});

test('watchKeyPair() hands on a new pair once it is whole', async () => {
  using root = makeTemporaryRoot('crt');
  const files = { certificatePath: `${root.path}/tls.crt`, keyPath: `${root.path}/tls.key` };
  const write = (path: string, text: string) => {
    writeFileSync(`${path}.new`, text);
    renameSync(`${path}.new`, path);
  };
  const [one, two] = [await issue(), await issue()];
  write(files.certificatePath, one.certificatePem);
  write(files.keyPath, one.keyPem);
  assert.equal(await readKeyPair(files), { certificatePem: one.certificatePem, keyPem: one.keyPem });
  const stop = new AbortController();
  const seen: string[] = [];
  const serialOf = ({ certificatePem }: KeyPair) => new X509Certificate(certificatePem).serialNumber;
  const use = async (keyPair: KeyPair) => {
    seen.push(serialOf(keyPair));
    if (seen.length === 1) {
      write(files.certificatePath, two.certificatePem);
      setTimeout(() => write(files.keyPath, two.keyPem), 30);
    } else stop.abort();
  };
  await watchKeyPair(files, use, { pollMs: 5, logger: pino({ level: 'silent' }), signal: stop.signal });
  assert.equal(seen, [serialOf(one), serialOf(two)]);
});

test('readKeyPair() says which file is wrong', async () => {
  using root = makeTemporaryRoot('crt');
  const path = `${root.path}/big.pem`;
  writeFileSync(path, Buffer.alloc(300_000));
  const messageOf = (certificatePath: string) =>
    readKeyPair({ certificatePath, keyPath: path }).then(
      () => 'read',
      (error: Error) => error.message,
    );
  assert.match(await messageOf(`${root.path}/none.pem`), /none\.pem": ENOENT/);
  assert.match(await messageOf(path), /big\.pem": it has 300000 bytes/);
});

test.run();
