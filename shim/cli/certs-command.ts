import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import { join, resolve } from 'node:path';
import { type CertificateAuthority, createCa, issueCertificate } from '../base/certificate-authority.ts';
import { ErrorCode, nodeErrorCode, ShoalError } from '../base/errors.ts';
import { ExitCode } from './exit-codes.ts';

export interface CertsInitOptions {
  /** Hosts with `,` between them: an address, or `NAME=ADDRESS+NAME…` for a node with several. */
  readonly nodes: string;
  readonly out: string;
  readonly days: string;
}

interface Node {
  readonly name: string;
  readonly ipAddresses: readonly string[];
  readonly dnsNames: readonly string[];
}

const NODES_MAX = 10_000;
const CA_DAYS = 3650;
const DAYS_MAX = 3650;
/** Keys are their owner's alone. */
const SECRET_MODE = 0o600;
const DIRECTORY_MODE = 0o700;
const HOST = /^[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$/;

/**
 * `shoal certs init`: an authority, and a certificate for each node, as PEM files below `out`. An authority that is
 * there already signs further nodes; what a node has already is made anew. @throws ConfigInvalid
 */
export async function runCertsInit(options: CertsInitOptions): Promise<number> {
  const out = resolve(options.out);
  const nodes = options.nodes.split(',').filter(Boolean).map(parseNode);
  const days = Number(options.days);
  if (nodes.length === 0 || nodes.length > NODES_MAX)
    throw invalid(options.nodes, `1 to ${NODES_MAX} nodes wanted`);
  if (!Number.isInteger(days) || days < 1 || days > DAYS_MAX)
    throw invalid(options.days, `1 to ${DAYS_MAX} days wanted`);
  const ca = await openCa(out);
  for (const node of nodes) await writeNode(join(out, node.name), node, ca, days);
  process.stdout.write(describe(out, nodes));
  return ExitCode.Ok;
}

/** `10.0.0.7`, `node-a`, or `node-a=10.0.0.7+node-a.example`. */
function parseNode(text: string): Node {
  const equals = text.indexOf('=');
  const [name, rest] = equals === -1 ? [text, text] : [text.slice(0, equals), text.slice(equals + 1)];
  const hosts = rest.split('+');
  for (const host of [name, ...hosts])
    if (isIP(host) === 0 && !HOST.test(host))
      throw invalid(text, 'an address, a host name, or NAME=ADDRESS+NAME… wanted');
  const ipAddresses = hosts.filter((host) => isIP(host) !== 0);
  return { name: name.replaceAll(':', '-'), ipAddresses, dnsNames: hosts.filter((host) => isIP(host) === 0) };
}

async function openCa(out: string): Promise<CertificateAuthority> {
  const [certificatePath, keyPath] = [join(out, 'ca.crt'), join(out, 'ca.key')];
  await onDisk(out, () => mkdir(out, { recursive: true, mode: DIRECTORY_MODE }));
  const [certificatePem, keyPem] = [await readIfThere(certificatePath), await readIfThere(keyPath)];
  if (certificatePem !== undefined && keyPem !== undefined) return { certificatePem, keyPem };
  const half = certificatePem === undefined ? keyPem && keyPath : certificatePath;
  if (half !== undefined) throw invalid(half, 'ca.crt and ca.key are wanted, or neither');
  const ca = await createCa({ name: 'Shoal peers', days: CA_DAYS });
  await write(keyPath, ca.keyPem, SECRET_MODE);
  await write(certificatePath, ca.certificatePem, 0o644);
  return ca;
}

async function writeNode(
  directory: string,
  node: Node,
  ca: CertificateAuthority,
  days: number,
): Promise<void> {
  const issued = await issueCertificate({ ca, ...node, days, usage: 'both' }).catch((cause: unknown) => {
    throw new ShoalError(
      ErrorCode.ConfigInvalid,
      'Cannot sign with "ca.key": it is not the key of "ca.crt", or no PEM',
      { cause },
    );
  });
  await onDisk(directory, () => mkdir(directory, { recursive: true, mode: DIRECTORY_MODE }));
  await write(join(directory, 'ca.crt'), ca.certificatePem, 0o644);
  await write(join(directory, 'tls.key'), issued.keyPem, SECRET_MODE);
  await write(join(directory, 'tls.crt'), issued.certificatePem, 0o644);
}

function describe(out: string, nodes: readonly Node[]): string {
  const first = nodes[0]?.name ?? '';
  const lines = [
    `${out}/ca.crt, ca.key: the authority. Keep ca.key away from nodes: whoever has it can be any of them.`,
    `${out}/NODE/{ca.crt,tls.crt,tls.key}: for ${nodes.length} nodes, as on ${first}:`,
    '  peers:',
    '    tls: {ca: DIR/ca.crt, cert: DIR/tls.crt, key: DIR/tls.key}',
  ];
  return `${lines.join('\n')}\n`;
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (nodeErrorCode(error) === 'ENOENT') return undefined;
    throw invalid(path, nodeErrorCode(error) ?? 'unreadable');
  }
}

function write(path: string, text: string, mode: number): Promise<void> {
  return onDisk(path, () => writeFile(path, text, { mode, flush: true }));
}

async function onDisk<T>(path: string, work: () => Promise<T>): Promise<void> {
  try {
    await work();
  } catch (error) {
    throw invalid(path, nodeErrorCode(error) ?? 'it cannot be written');
  }
}

function invalid(what: string, state: string): ShoalError {
  return new ShoalError(ErrorCode.ConfigInvalid, `Cannot make certificates for "${what}": ${state}`);
}
