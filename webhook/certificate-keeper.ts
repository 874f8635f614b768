import { isIP } from 'node:net';
import {
  AdmissionregistrationV1Api,
  CoreV1Api,
  type KubeConfig,
  type V1MutatingWebhookConfiguration,
  type V1Secret,
} from '@kubernetes/client-node';
import type { Logger } from 'pino';
import { createCa, issueCertificate } from '../shim/base/certificate-authority.ts';
import {
  bundleOf,
  type CertificateState,
  type CertificateTimes,
  planCertificates,
} from './certificate-plan.ts';
import { stateFromData, stateToData } from './certificate-secret.ts';
import type { KeyPair } from './key-pair.ts';
import { callOptions, orUndefined, statusOf } from './kube-client.ts';

export interface CertificateKeeperOptions {
  readonly kubeConfig: KubeConfig;
  /** The webhook's own namespace, where the Secret is. */
  readonly namespace: string;
  readonly secretName: string;
  /** The MutatingWebhookConfiguration that is told whom to trust. */
  readonly configurationName: string;
  /** DNS names and IP addresses that the certificate is for: those of the Service. */
  readonly hosts: readonly string[];
  readonly times: CertificateTimes;
  readonly logger: Logger;
  readonly nowMs: () => number;
}

const DAY_MS = 86_400_000;
/** From nothing to a served certificate is one step; after that each look may find one more. */
const STEPS_MAX = 4;
const CONFLICT = 409;

/**
 * Keeps authority and certificate of all replicas in one Secret, and the trust in it in the MutatingWebhookConfiguration.
 * Every replica does so; the Secret's version decides who was first.
 */
export class CertificateKeeper {
  readonly #options: CertificateKeeperOptions;
  readonly #core: CoreV1Api;
  readonly #admission: AdmissionregistrationV1Api;

  constructor(options: CertificateKeeperOptions) {
    this.#options = options;
    this.#core = options.kubeConfig.makeApiClient(CoreV1Api);
    this.#admission = options.kubeConfig.makeApiClient(AdmissionregistrationV1Api);
  }

  /**
   * Does what is due, and gives the certificate to serve. Trust is told before what needs it is served.
   *
   * @throws where the API server does not answer or refuses; then the same may be tried again.
   */
  async tend(signal: AbortSignal): Promise<KeyPair | undefined> {
    for (let step = 0; step < STEPS_MAX; step++) {
      const secret = await this.#readSecret(signal);
      const configuration = await this.#readConfiguration(signal);
      const state = stateFromData(secret?.data ?? {});
      const bundleIsKnown = configuration !== undefined && trusts(configuration, bundleOf(state));
      const changed = await this.#nextState(state, bundleIsKnown);
      if (changed === undefined) {
        if (!bundleIsKnown) await this.#tellBundle(configuration, bundleOf(state), signal);
        return state.serving;
      }
      await this.#writeSecret(secret, changed, signal);
    }
    return undefined;
  }

  async #nextState(state: CertificateState, bundleIsKnown: boolean): Promise<CertificateState | undefined> {
    const { times, hosts, logger } = this.#options;
    const nowMs = this.#options.nowMs();
    const step = planCertificates(state, { nowMs, times, hosts, bundleIsKnown });
    if (step === 'nothing') return undefined;
    logger.info({ step }, 'certificates change');
    switch (step) {
      case 'start':
        return this.#issued({ authority: await this.#makeAuthority(), changedAtMs: nowMs });
      case 'issue':
        return this.#issued(state);
      case 'prepare':
        return { ...state, next: await this.#makeAuthority(), changedAtMs: nowMs };
      case 'promote': {
        const { authority, next, ...rest } = state;
        return this.#issued({
          ...rest,
          ...(next && { authority: next }),
          ...(authority && { previousPem: authority.certificatePem }),
          changedAtMs: nowMs,
        });
      }
      case 'forget': {
        const { previousPem: _forgotten, ...rest } = state;
        return { ...rest, changedAtMs: nowMs };
      }
    }
  }

  #makeAuthority() {
    const { namespace, times } = this.#options;
    return createCa({ name: `shoal-webhook.${namespace}`, days: times.authorityMs / DAY_MS });
  }

  async #issued(state: CertificateState): Promise<CertificateState> {
    if (state.authority === undefined) return state;
    const { hosts, times } = this.#options;
    const made = await issueCertificate({
      ca: state.authority,
      dnsNames: hosts.filter((host) => isIP(host) === 0),
      ipAddresses: hosts.filter((host) => isIP(host) !== 0),
      days: times.servingMs / DAY_MS,
      usage: 'server',
    });
    return { ...state, serving: { certificatePem: made.certificatePem, keyPem: made.keyPem } };
  }

  #readSecret(signal: AbortSignal): Promise<V1Secret | undefined> {
    const { secretName: name, namespace } = this.#options;
    return orUndefined(this.#core.readNamespacedSecret({ name, namespace }, callOptions(signal)));
  }

  /** A replica that was later than another writes nothing: it reads again, and finds the other's state. */
  async #writeSecret(old: V1Secret | undefined, state: CertificateState, signal: AbortSignal): Promise<void> {
    const { secretName: name, namespace } = this.#options;
    const data = stateToData(state);
    try {
      if (old === undefined) {
        const body: V1Secret = { metadata: { name, namespace }, type: 'Opaque', data };
        await this.#core.createNamespacedSecret({ namespace, body }, callOptions(signal));
      } else {
        const request = { name, namespace, body: { ...old, data } };
        await this.#core.replaceNamespacedSecret(request, callOptions(signal));
      }
    } catch (error) {
      if (statusOf(error) !== CONFLICT) throw error;
    }
  }

  #readConfiguration(signal: AbortSignal): Promise<V1MutatingWebhookConfiguration | undefined> {
    const name = this.#options.configurationName;
    return orUndefined(this.#admission.readMutatingWebhookConfiguration({ name }, callOptions(signal)));
  }

  async #tellBundle(
    configuration: V1MutatingWebhookConfiguration | undefined,
    bundle: string,
    signal: AbortSignal,
  ): Promise<void> {
    const { configurationName: name, logger } = this.#options;
    if (configuration === undefined) {
      logger.warn({ name }, 'no such MutatingWebhookConfiguration: nobody asks this webhook');
      return;
    }
    const value = Buffer.from(bundle).toString('base64');
    const body = [
      // Somebody else's change in between makes this one fail, and the next look starts from theirs.
      { op: 'test', path: '/metadata/resourceVersion', value: configuration.metadata?.resourceVersion },
      ...(configuration.webhooks ?? []).map((_, index) => ({
        op: 'add',
        path: `/webhooks/${index}/clientConfig/caBundle`,
        value,
      })),
    ];
    await this.#admission.patchMutatingWebhookConfiguration({ name, body }, callOptions(signal));
    logger.info({ name }, 'the API server trusts the authority of this webhook');
  }
}

function trusts({ webhooks = [] }: V1MutatingWebhookConfiguration, bundle: string): boolean {
  const wanted = Buffer.from(bundle).toString('base64');
  return webhooks.every(({ clientConfig }) => clientConfig.caBundle === wanted);
}
