import { api } from './api.ts';
import { GrpcCode, unless } from './call-error.ts';
import { type ContainerdClient, LONG_CALL_TIMEOUT_MS } from './containerd-client.ts';
import type { LeaseResource } from './messages.ts';

/** containerd collects what a lease held this long after its creation, even if we are gone and never come back. */
export const LEASE_LIFETIME_MS = 2 * 60 * 60_000;
/** A pull that lasts longer gets a further lease in good time. No call is in flight for as long as this. */
const RENEW_AFTER_MS = LEASE_LIFETIME_MS / 2;
/** Names the process that made a lease, for the sweep. */
export const OWNER_LABEL = 'shoal.io/owner';
const EXPIRE_LABEL = 'containerd.io/gc.expire';

export interface LeaseOptions {
  readonly client: ContainerdClient;
  /** Unique name; further leases of the same pull append a number. */
  readonly name: string;
  readonly owner: string;
}

/** Keeps what one import makes from being collected, for as long as the import runs. */
export class Lease {
  readonly #options: LeaseOptions;
  /** Oldest first; all are kept until the end, so that nothing is lost between two of them. */
  readonly #ids: string[] = [];
  #createdAtMs = Number.NEGATIVE_INFINITY;
  #renewing: Promise<void> | undefined;

  constructor(options: LeaseOptions) {
    this.#options = options;
  }

  /** The lease to name in a call that starts now; takes one first when there is none or it has grown old. */
  async current(nowMs: number, signal: AbortSignal): Promise<string> {
    if (nowMs - this.#createdAtMs > RENEW_AFTER_MS) {
      this.#renewing ??= this.#renew(nowMs, signal).finally(() => {
        this.#renewing = undefined;
      });
    }
    await this.#renewing;
    return this.#ids.at(-1) ?? '';
  }

  /** Protects something that exists already, or will. */
  async hold(resource: LeaseResource, nowMs: number, signal: AbortSignal): Promise<void> {
    const id = await this.current(nowMs, signal);
    const options = { signal, doing: `hold "${resource.id}"` };
    await this.#options.client.call(api.leases.addResource, { id, resource }, options);
  }

  async delete(signal: AbortSignal): Promise<void> {
    for (const id of this.#ids) await deleteLease(this.#options.client, id, false, signal);
    this.#ids.length = 0;
  }

  async #renew(nowMs: number, signal: AbortSignal): Promise<void> {
    const { client } = this.#options;
    const older = [...this.#ids];
    await this.#add(nowMs, signal);
    for (const id of older) {
      const call = client.call(api.leases.listResources, { id }, { signal, doing: `renew lease "${id}"` });
      const resources = (await unless([GrpcCode.NotFound], call))?.resources ?? [];
      for (const resource of resources) await this.hold(resource, nowMs, signal);
    }
  }

  async #add(nowMs: number, signal: AbortSignal): Promise<void> {
    const { client, name, owner } = this.#options;
    const id = `${name}-${this.#ids.length}`;
    const expiry = new Date(nowMs + LEASE_LIFETIME_MS).toISOString();
    const labels = { [EXPIRE_LABEL]: expiry, [OWNER_LABEL]: owner };
    this.#ids.push(id);
    this.#createdAtMs = nowMs;
    await client.call(api.leases.create, { id, labels }, { signal, doing: `create lease "${id}"` });
  }
}

/** `collect`: containerd collects garbage before it answers. */
export async function deleteLease(
  client: ContainerdClient,
  id: string,
  collect: boolean,
  signal: AbortSignal,
): Promise<void> {
  const options = { signal, doing: `delete lease "${id}"`, timeoutMs: LONG_CALL_TIMEOUT_MS };
  await unless([GrpcCode.NotFound], client.call(api.leases.delete, { id, sync: collect }, options));
}

/** Whether the lease's time is over by this clock; containerd's and ours are the same machine's. */
export function isExpired(labels: Readonly<Record<string, string>>, nowMs: number): boolean {
  const expiryMs = Date.parse(labels[EXPIRE_LABEL] ?? '');
  return Number.isNaN(expiryMs) || expiryMs <= nowMs;
}
