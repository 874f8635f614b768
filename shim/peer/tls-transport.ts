import { constants } from 'node:crypto';
import type { Server, Socket } from 'node:net';
import {
  createSecureContext,
  createServer,
  type SecureContext,
  TLSSocket,
  connect as tlsConnect,
} from 'node:tls';
import { certifies } from './certified-name.ts';
import type { PeerIdentity, PeerTransport } from './peer-transport.ts';
import { placeOf, readInPlace, SOCKET_OPTIONS } from './peer-transport.ts';
import { readTlsFiles, type TlsFiles, type TlsMaterial } from './tls-files.ts';

/** Files are read this often: certificates are renewed days before they end, and a Secret takes a minute to arrive. */
const RELOAD_INTERVAL_MS = 10_000;
/** A client that does not finish its handshake is hung up on; as long as a dial with room for a busy node. */
const HANDSHAKE_TIMEOUT_MS = 3_000;
/** Named so that a certificate of the same authority cannot be put to use with another protocol. */
const APPLICATION_PROTOCOL = 'shoal-peer/1';
/** AES-128 first: it is the fastest where the processor helps, and as good as the rest for this. */
const CIPHERS = 'TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256';
const BINDING_BYTES = 32;
const BINDING_LABEL = 'EXPORTER-shoal-peer';

export interface TlsTransportOptions {
  readonly files: TlsFiles;
  /** Told when files were read again, and when they cannot be used: the old ones stay in use then. */
  readonly onReload: (problem: string | undefined) => void;
  readonly reloadIntervalMs?: number;
}

/** Opens mutual TLS 1.3 between peers from files. @throws ConfigInvalid when they cannot be used */
export async function openTlsTransport(options: TlsTransportOptions): Promise<TlsTransport> {
  return new TlsTransport(options, await readTlsFiles(options.files));
}

/**
 * TLS 1.3 with certificates on both sides. New files are used for new connections; those that are open go on, so that a
 * renewal interrupts nothing.
 */
export class TlsTransport implements PeerTransport {
  readonly isSecure = true;
  readonly readyEvent = 'secureConnection';
  readonly #options: TlsTransportOptions;
  readonly #servers = new Set<ReturnType<typeof createServer>>();
  readonly #timer: NodeJS.Timeout;
  #material: TlsMaterial;
  #context: SecureContext;
  #reloading: Promise<void> | undefined;

  constructor(options: TlsTransportOptions, material: TlsMaterial) {
    this.#options = options;
    this.#material = material;
    this.#context = createSecureContext(contextOptions(material));
    this.#timer = setInterval(() => void this.reload(), options.reloadIntervalMs ?? RELOAD_INTERVAL_MS);
    this.#timer.unref();
  }

  connect(options: Parameters<PeerTransport['connect']>[0]): Socket {
    return tlsConnect({
      ...SOCKET_OPTIONS,
      ...placeOf(options),
      // The declared type leaves out what is passed on to the socket.
      ...({ onread: readInPlace(options) } as object),
      secureContext: this.#context,
      minVersion: 'TLSv1.3',
      ALPNProtocols: [APPLICATION_PROTOCOL],
      rejectUnauthorized: true,
      // The chain is checked here; whom it names is checked against the peer's own words in its hello.
      checkServerIdentity: () => undefined,
    });
  }

  /** Nothing: what is left of a chunk may have been read from the kernel and not been decrypted. */
  gather(): void {}

  createServer(): Server {
    const server = createServer({
      ...SOCKET_OPTIONS,
      ...contextOptions(this.#material),
      ALPNProtocols: [APPLICATION_PROTOCOL],
      requestCert: true,
      rejectUnauthorized: true,
      handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
    });
    // Strangers are no event: Node has hung up on them already.
    server.on('tlsClientError', () => undefined);
    server.on('close', () => this.#servers.delete(server));
    this.#servers.add(server);
    return server;
  }

  identify(socket: Socket): PeerIdentity | undefined {
    if (!(socket instanceof TLSSocket)) return undefined;
    const certificate = socket.getPeerX509Certificate();
    if (certificate === undefined) return undefined;
    return {
      mayBe: (peer, names) => certifies(certificate, peer, names),
      binding: socket.exportKeyingMaterial(BINDING_BYTES, BINDING_LABEL, Buffer.alloc(0)),
    };
  }

  /** Reads the files again and uses them from now on if they have changed. Never rejects. */
  reload(): Promise<void> {
    this.#reloading ??= this.#reload().finally(() => {
      this.#reloading = undefined;
    });
    return this.#reloading;
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#reloading;
  }

  async #reload(): Promise<void> {
    const { files, onReload } = this.#options;
    try {
      const material = await readTlsFiles(files);
      if (isSame(material, this.#material)) return;
      this.#context = createSecureContext(contextOptions(material));
      for (const server of this.#servers) server.setSecureContext(contextOptions(material));
      this.#material = material;
      onReload(undefined);
    } catch (error) {
      onReload((error as Error).message);
    }
  }
}

function contextOptions({ ca, cert, key }: TlsMaterial) {
  // A session that is taken up again would carry on with a certificate that has been replaced since.
  const secureOptions = constants.SSL_OP_NO_TICKET;
  return {
    ca,
    cert,
    key,
    ciphers: CIPHERS,
    minVersion: 'TLSv1.3',
    maxVersion: 'TLSv1.3',
    secureOptions,
  } as const;
}

function isSame(one: TlsMaterial, other: TlsMaterial): boolean {
  return one.ca === other.ca && one.cert === other.cert && one.key === other.key;
}
