import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { annotationKeys } from './annotation-keys.ts';
import { readKeyPair, watchKeyPair } from './certificate-files.ts';
import { CertificateKeeper } from './certificate-keeper.ts';
import { startHealthServer } from './health-server.ts';
import { type KeyPair, notAfterMs } from './key-pair.ts';
import { describeCallError, loadKubeConfig, type PooledKubeConfig } from './kube-client.ts';
import { runElected } from './leader-election.ts';
import { DEFAULT_LEASE_TIMES } from './lease-plan.ts';
import { createMetrics, type WebhookMetrics } from './metrics.ts';
import type { WebhookOptions } from './options.ts';
import { copySecrets } from './secrets.ts';
import { startWebhookServer, type WebhookServer } from './server.ts';

/** Between two tries to get a first certificate, when the API server does not answer. */
const FIRST_CERTIFICATE_RETRY_MS = 1_000;
const SECRET_NAME = 'shoal-webhook-certificates';
const LEASE_NAME = 'shoal-webhook';

/**
 * Runs one replica until the signal is aborted: answers admissions and, while it leads, copies pull secrets.
 *
 * @throws ShoalError where it cannot start: ConfigInvalid, ListenFailed.
 */
export async function runWebhook(
  options: WebhookOptions,
  logger: Logger,
  signal: AbortSignal,
): Promise<void> {
  const metrics = createMetrics();
  const replica = new Replica(options, metrics, logger);
  const health = await startHealthServer({
    listen: options.healthListen,
    registry: metrics.registry,
    unreadyBecause: () => (signal.aborted ? 'ending' : replica.unreadyBecause()),
  });
  const ended = new AbortController();
  try {
    const needsApi = options.certificateFiles === undefined || options.namespaces.length > 0;
    const kubeConfig = needsApi ? loadKubeConfig(options.kubeconfig) : undefined;
    const background = AbortSignal.any([signal, ended.signal]);
    const copying = kubeConfig && copyWhileLeading(kubeConfig, { options, metrics, logger }, background);
    await replica.start(kubeConfig, background);
    await aborted(signal);
    await Promise.all([replica.close(), copying]);
  } finally {
    ended.abort();
    await health.close();
  }
}

/** The certificate in use and the server that serves it. */
class Replica {
  readonly #options: WebhookOptions;
  readonly #metrics: WebhookMetrics;
  readonly #logger: Logger;
  #server: WebhookServer | undefined;
  #inUse: KeyPair | undefined;

  constructor(options: WebhookOptions, metrics: WebhookMetrics, logger: Logger) {
    this.#options = options;
    this.#metrics = metrics;
    this.#logger = logger;
  }

  unreadyBecause(): string | undefined {
    if (this.#server === undefined || this.#inUse === undefined) return 'no certificate yet';
    return notAfterMs(this.#inUse) < Date.now() ? 'the certificate has expired' : undefined;
  }

  async start(kubeConfig: PooledKubeConfig | undefined, signal: AbortSignal): Promise<void> {
    const { certificateFiles: files, certificatePollMs: pollMs } = this.#options;
    if (files !== undefined) {
      await this.#use(await readKeyPair(files));
      const use = (keyPair: KeyPair) => this.#change(keyPair);
      void watchKeyPair(files, use, { pollMs, logger: this.#logger, signal });
    } else if (kubeConfig !== undefined) {
      const keeper = this.#makeKeeper(kubeConfig);
      const first = await this.#firstKeyPair(keeper, signal);
      if (first === undefined) return;
      await this.#use(first);
      void this.#keepTending(keeper, signal);
    }
  }

  async close(): Promise<void> {
    await this.#server?.close(this.#options.drainMs);
  }

  async #use(keyPair: KeyPair): Promise<void> {
    if (this.#inUse?.certificatePem === keyPair.certificatePem) return;
    if (this.#server === undefined) this.#server = await this.#startServer(keyPair);
    else this.#server.useKeyPair(keyPair);
    this.#inUse = keyPair;
    this.#metrics.setCertificateNotAfter(notAfterMs(keyPair));
    this.#logger.info({ notAfter: new Date(notAfterMs(keyPair)).toISOString() }, 'certificate in use');
  }

  async #startServer(keyPair: KeyPair): Promise<WebhookServer> {
    const { listen, keyPrefix, limits, rewriteImages, hostRules } = this.#options;
    const admission = { keys: annotationKeys(keyPrefix), limits, rewriteImages, hostRules };
    const server = await startWebhookServer({
      listen,
      keyPair,
      admission,
      metrics: this.#metrics,
      logger: this.#logger,
    });
    this.#logger.info({ port: server.port }, 'answering admissions');
    return server;
  }

  /** Undefined only when the signal is aborted. */
  async #firstKeyPair(keeper: CertificateKeeper, signal: AbortSignal): Promise<KeyPair | undefined> {
    while (!signal.aborted) {
      const keyPair = await this.#tend(keeper, signal);
      if (keyPair !== undefined) return keyPair;
      await sleep(FIRST_CERTIFICATE_RETRY_MS, undefined, { signal }).catch(() => undefined);
    }
    return undefined;
  }

  async #keepTending(keeper: CertificateKeeper, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await sleep(this.#options.certificatePollMs, undefined, { signal }).catch(() => undefined);
      const keyPair = await this.#tend(keeper, signal);
      if (keyPair !== undefined) await this.#change(keyPair);
    }
  }

  async #change(keyPair: KeyPair): Promise<void> {
    try {
      await this.#use(keyPair);
    } catch (error) {
      this.#logger.error({ err: error }, 'certificate not taken: the one in use stays');
    }
  }

  async #tend(keeper: CertificateKeeper, signal: AbortSignal): Promise<KeyPair | undefined> {
    try {
      return await keeper.tend(signal);
    } catch (error) {
      if (!signal.aborted)
        this.#logger.warn({ reason: describeCallError(error) }, 'certificates could not be looked at');
      return undefined;
    }
  }

  #makeKeeper(kubeConfig: PooledKubeConfig): CertificateKeeper {
    const { ownNamespace, serviceName, configurationName, certificateTimes, certificateHosts } =
      this.#options;
    const host = `${serviceName}.${ownNamespace}.svc`;
    return new CertificateKeeper({
      kubeConfig,
      namespace: ownNamespace,
      secretName: SECRET_NAME,
      configurationName,
      hosts: [host, `${host}.cluster.local`, ...certificateHosts],
      times: certificateTimes,
      logger: this.#logger,
      nowMs: Date.now,
    });
  }
}

interface Parts {
  readonly options: WebhookOptions;
  readonly metrics: WebhookMetrics;
  readonly logger: Logger;
}

async function copyWhileLeading(
  kubeConfig: PooledKubeConfig,
  { options, metrics, logger }: Parts,
  signal: AbortSignal,
): Promise<void> {
  const { namespaces, ownNamespace, identity, copyGraceMs, hostRules, keyPrefix } = options;
  if (namespaces.length === 0) return;
  const lead = async (leading: AbortSignal) => {
    metrics.setLeader(true);
    const copies = { keys: annotationKeys(keyPrefix), hostRules };
    const parts = { kubeConfig, metrics, logger };
    await copySecrets({ ...parts, namespaces, copies, graceMs: copyGraceMs }, leading);
    metrics.setLeader(false);
  };
  const times = DEFAULT_LEASE_TIMES;
  const election = { kubeConfig, namespace: ownNamespace, leaseName: LEASE_NAME, identity, times, logger };
  await runElected(election, lead, signal);
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
