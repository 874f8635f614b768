import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { makeTemporaryRoot } from './temporary-root.ts';

export interface Certificate {
  readonly key: string;
  readonly cert: string;
}

/** Null when certificates can be made here, else one line for a skip message. */
export function certificateSkipReason(): string | null {
  const found = spawnSync('openssl', ['version'], { stdio: 'ignore' }).status === 0;
  return found ? null : 'needs the openssl command: install the package openssl';
}

/** Makes a self-signed certificate for 127.0.0.1 and localhost, valid for a day; it is its own CA. */
export function makeCertificate(commonName = 'shoal test'): Certificate {
  using root = makeTemporaryRoot('crt');
  const [key, cert] = [`${root.path}/key.pem`, `${root.path}/cert.pem`];
  const names = 'subjectAltName=IP:127.0.0.1,DNS:localhost';
  const args = [
    'req',
    '-x509',
    '-nodes',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:prime256v1',
    '-days',
    '1',
  ];
  args.push('-subj', `/CN=${commonName}`, '-addext', names, '-keyout', key, '-out', cert);
  const result = spawnSync('openssl', args, { encoding: 'utf8' });
  if (result.status !== 0) throw new Error(`Cannot make "certificate": ${result.stderr || result.error}`);
  return { key: readFileSync(key, 'utf8'), cert: readFileSync(cert, 'utf8') };
}
