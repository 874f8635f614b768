import { isShoalError, type ShoalError } from '../base/errors.ts';
import { type P2pHostRule, p2pHostOf } from '../base/p2p-address.ts';
import type { Credentials } from '../registry/origin.ts';
import { ApiClient } from './api-client.ts';
import type { OpenAccess } from './cluster-access.ts';
import { findInKeyring, readPullSecret } from './keyring.ts';

export interface PullSecretsOptions {
  /** kubelet's own: the node authorizer lets it read the secrets of this node's pods and no others. */
  readonly openAccess: OpenAccess;
  readonly p2pRules: readonly P2pHostRule[];
  readonly onFailure: (error: ShoalError) => void;
}

/** One pod's secrets, and the image that something is wanted for. */
export interface SecretQuery {
  readonly namespace: string;
  readonly secrets: readonly string[];
  readonly registryHost: string;
  readonly repository: string;
}

/**
 * Finds what kubelet would pull an image with. Secrets are read each time and kept nowhere, so that a rotated one counts at once;
 * one that cannot be read counts as none.
 */
export class PullSecrets {
  readonly #options: PullSecretsOptions;

  constructor(options: PullSecretsOptions) {
    this.#options = options;
  }

  /** Never rejects. */
  async find(query: SecretQuery, signal: AbortSignal): Promise<Credentials | undefined> {
    const { namespace, secrets, registryHost, repository } = query;
    if (secrets.length === 0) return undefined;
    try {
      const found = await this.#readAll(namespace, secrets, signal);
      const p2pHost = p2pHostOf(registryHost, this.#options.p2pRules);
      const hosts = p2pHost === undefined ? [registryHost] : [registryHost, p2pHost];
      return findInKeyring(found.flatMap(readPullSecret), hosts, repository);
    } catch (error) {
      if (!isShoalError(error)) throw error;
      this.#options.onFailure(error);
      return undefined;
    }
  }

  async #readAll(namespace: string, names: readonly string[], signal: AbortSignal): Promise<unknown[]> {
    const client = new ApiClient(await this.#options.openAccess());
    try {
      const read = (name: string) => this.#read(client, namespace, name, signal);
      return (await Promise.all(names.map(read))).flat();
    } finally {
      await client.close();
    }
  }

  async #read(client: ApiClient, namespace: string, name: string, signal: AbortSignal): Promise<unknown[]> {
    const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/secrets/${encodeURIComponent(name)}`;
    try {
      return [await client.get({ path }, signal)];
    } catch (error) {
      if (!isShoalError(error)) throw error;
      this.#options.onFailure(error);
      return [];
    }
  }
}
