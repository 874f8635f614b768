import { createPrivateKey, generateKeyPairSync, type KeyObject, randomBytes } from 'node:crypto';

/** A private authority: its certificate, and the key that signs what it issues. Both PEM. */
export interface CertificateAuthority {
  readonly certificatePem: string;
  /** PKCS #8. Whoever has it can be any node. */
  readonly keyPem: string;
}

export interface IssuedCertificate {
  readonly certificatePem: string;
  /** PKCS #8. */
  readonly keyPem: string;
  readonly notAfterMs: number;
}

/** `server`: it is dialled; `client`: it dials; `both`: a node among peers. */
export type CertificateUsage = 'server' | 'client' | 'both';

export interface IssueOptions {
  readonly ca: CertificateAuthority;
  /** Subject common name, for people; identity is in the two lists. */
  readonly name?: string;
  readonly dnsNames?: readonly string[];
  readonly ipAddresses?: readonly string[];
  readonly days: number;
  readonly usage: CertificateUsage;
}

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const DAY_MS = 86_400_000;
/** Clocks of nodes differ; a certificate is valid a little before it was made. */
const BACKDATE_MS = 5 * 60_000;
/** RFC 5280, 4.1.2.2: at most 20 octets; random ones need no counter. */
const SERIAL_BYTES = 16;
const USAGE_OIDS = { server: '1.3.6.1.5.5.7.3.1', client: '1.3.6.1.5.5.7.3.2' } as const;

type X509 = typeof import('@peculiar/x509');

/** Makes a self-signed authority that may sign certificates of nodes and no further authority. */
export async function createCa(options: {
  readonly name: string;
  readonly days: number;
}): Promise<CertificateAuthority> {
  const x509 = await loadX509();
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: ALGORITHM.namedCurve });
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    name: [{ CN: [options.name] }],
    ...validity(options.days),
    signingAlgorithm: ALGORITHM,
    keys: {
      publicKey: await cryptoKey(publicKey, 'verify'),
      privateKey: await cryptoKey(privateKey, 'sign'),
    },
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(await cryptoKey(publicKey, 'verify')),
    ],
  });
  return { certificatePem: `${certificate.toString('pem')}\n`, keyPem: pemOf(privateKey) };
}

/** Makes a key and a certificate for it that names the given hosts. @throws TypeError when `ca` is not PEM of an authority. */
export async function issueCertificate(options: IssueOptions): Promise<IssuedCertificate> {
  const x509 = await loadX509();
  const issuer = new x509.X509Certificate(options.ca.certificatePem);
  const signingKey = await cryptoKey(createPrivateKey(options.ca.keyPem), 'sign');
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: ALGORITHM.namedCurve });
  const name = options.name ?? options.dnsNames?.[0] ?? options.ipAddresses?.[0] ?? 'node';
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: serialNumber(),
    subject: [{ CN: [name] }],
    issuer: issuer.subject,
    ...validity(options.days),
    signingAlgorithm: ALGORITHM,
    publicKey: await cryptoKey(publicKey, 'verify'),
    signingKey,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension(usageOids(options.usage)),
      subjectAlternativeNames(x509, options),
      await x509.AuthorityKeyIdentifierExtension.create(issuer),
      await x509.SubjectKeyIdentifierExtension.create(await cryptoKey(publicKey, 'verify')),
    ],
  });
  return {
    certificatePem: `${certificate.toString('pem')}\n`,
    keyPem: pemOf(privateKey),
    notAfterMs: certificate.notAfter.getTime(),
  };
}

function subjectAlternativeNames(x509: X509, { dnsNames = [], ipAddresses = [] }: IssueOptions) {
  const dns = dnsNames.map((value) => ({ type: 'dns' as const, value }));
  const ip = ipAddresses.map((value) => ({ type: 'ip' as const, value }));
  return new x509.SubjectAlternativeNameExtension([...dns, ...ip]);
}

function usageOids(usage: CertificateUsage): string[] {
  return usage === 'both' ? [USAGE_OIDS.server, USAGE_OIDS.client] : [USAGE_OIDS[usage]];
}

function validity(days: number): { readonly notBefore: Date; readonly notAfter: Date } {
  const nowMs = Date.now();
  return { notBefore: new Date(nowMs - BACKDATE_MS), notAfter: new Date(nowMs + days * DAY_MS) };
}

function serialNumber(): string {
  const bytes = randomBytes(SERIAL_BYTES);
  // A leading zero bit keeps the number positive, a one after it keeps its length.
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40;
  return bytes.toString('hex');
}

function cryptoKey(key: KeyObject, use: 'sign' | 'verify') {
  return key.toCryptoKey(ALGORITHM, true, [use]);
}

function pemOf(key: KeyObject): string {
  return key.export({ type: 'pkcs8', format: 'pem' }).toString();
}

/**
 * Loads the certificate library when certificates are made, which agents never do. One of its dependencies insists on
 * the metadata methods of a `Reflect` polyfill while it loads, and is content with empty answers.
 */
async function loadX509(): Promise<X509> {
  const reflect = Reflect as unknown as Record<string, unknown>;
  for (const method of ['getMetadata', 'getOwnMetadata', 'defineMetadata'])
    reflect[method] ??= () => undefined;
  return import('@peculiar/x509');
}
