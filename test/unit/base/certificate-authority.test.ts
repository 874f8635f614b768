import { X509Certificate } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createCa, issueCertificate } from '../../../shim/base/certificate-authority.ts';

const DAY_MS = 86_400_000;
const ca = await createCa({ name: 'Shoal peers', days: 10 });
const root = new X509Certificate(ca.certificatePem);

test('createCa() makes an authority that signs itself', () => {
  assert.ok(root.ca);
  assert.is(root.subject, 'CN=Shoal peers');
  assert.ok(root.verify(root.publicKey));
  assert.match(ca.keyPem, /^-----BEGIN PRIVATE KEY-----\n/);
});

test('issueCertificate() names the hosts, for the time and use that were asked for', async () => {
  const issued = await issueCertificate({
    ca,
    name: 'node-a, really',
    dnsNames: ['node-a.example'],
    ipAddresses: ['10.0.0.7', 'fd00::7'],
    days: 2,
    usage: 'both',
  });
  const leaf = new X509Certificate(issued.certificatePem);
  assert.ok(leaf.checkIssued(root) && leaf.verify(root.publicKey));
  assert.is(leaf.ca, false);
  assert.is(leaf.checkHost('node-a.example'), 'node-a.example');
  assert.is(leaf.checkIP('10.0.0.7'), '10.0.0.7');
  assert.is(leaf.checkIP('fd00::7'), 'fd00::7');
  assert.is(leaf.checkIP('10.0.0.8'), undefined);
  assert.equal(leaf.keyUsage, ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2']);
  assert.ok(Math.abs(issued.notAfterMs - Date.now() - 2 * DAY_MS) < 60_000);
  assert.is(Date.parse(leaf.validTo), issued.notAfterMs);
});

test('issueCertificate() gives every certificate a serial number of its own', async () => {
  const options = { ca, dnsNames: ['a'], days: 1, usage: 'server' } as const;
  const [first, second] = await Promise.all([issueCertificate(options), issueCertificate(options)]);
  const [one, two] = [first, second].map((each) => new X509Certificate(each.certificatePem));
  assert.is.not(one?.serialNumber, two?.serialNumber);
  assert.equal(one?.keyUsage, ['1.3.6.1.5.5.7.3.1']);
});

test.run();
