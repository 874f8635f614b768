import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type CertificateAuthority,
  createCa,
  issueCertificate,
} from '../../shim/base/certificate-authority.ts';
import type { TlsFiles } from '../../shim/peer/tls-files.ts';
import { openTlsTransport, type TlsTransport } from '../../shim/peer/tls-transport.ts';

export interface NodeNames {
  readonly dnsNames?: readonly string[];
  readonly ipAddresses?: readonly string[];
}

/** An authority and certificates of nodes, in files below a directory of its own. */
export class PeerCertificates implements Disposable {
  readonly directory = mkdtempSync(join(tmpdir(), 'shoal-certs-'));
  ca: CertificateAuthority;
  #count = 0;

  static async create(): Promise<PeerCertificates> {
    return new PeerCertificates(await createCa({ name: 'test peers', days: 1 }));
  }

  private constructor(ca: CertificateAuthority) {
    this.ca = ca;
  }

  /** From now on certificates come from another authority. */
  async replaceCa(): Promise<void> {
    this.ca = await createCa({ name: 'other peers', days: 1 });
  }

  /** Files with a new certificate; default is one for 127.0.0.1. */
  async issue(names: NodeNames = { ipAddresses: ['127.0.0.1'] }): Promise<TlsFiles> {
    const place = join(this.directory, `node-${this.#count++}`);
    const files = { ca: `${place}-ca.crt`, cert: `${place}.crt`, key: `${place}.key` };
    await this.renew(files, names);
    return files;
  }

  /** Writes a new certificate, of the present authority, over the files. */
  async renew(files: TlsFiles, names: NodeNames = { ipAddresses: ['127.0.0.1'] }): Promise<void> {
    const { certificatePem, keyPem } = await issueCertificate({
      ca: this.ca,
      ...names,
      days: 1,
      usage: 'both',
    });
    replaceFile(files.ca, this.ca.certificatePem);
    replaceFile(files.cert, certificatePem);
    replaceFile(files.key, keyPem);
  }

  async transport(
    names?: NodeNames,
    onReload: (problem: string | undefined) => void = () => undefined,
  ): Promise<TlsTransport> {
    return openTlsTransport({ files: await this.issue(names), onReload });
  }

  [Symbol.dispose](): void {
    rmSync(this.directory, { recursive: true });
  }
}

function replaceFile(path: string, text: string): void {
  writeFileSync(`${path}.new`, text);
  renameSync(`${path}.new`, path);
}
