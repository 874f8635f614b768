import { api } from './api.ts';
import { GrpcCode, unless } from './call-error.ts';
import { type CallOptions, type ContainerdClient, LONG_CALL_TIMEOUT_MS } from './containerd-client.ts';
import { type Labels, type Mount, type SnapshotInfo, SnapshotKind } from './messages.ts';

/** The snapshot that an unpack aims at, as containerd's own unpacker labels it. */
const SNAPSHOT_REF = 'containerd.io/snapshot.ref';

export interface PrepareRequest {
  readonly key: string;
  readonly chainId: string;
  /** Chain ID of the layers below; empty for the lowest. */
  readonly parent: string;
  readonly lease: string;
}

/** One snapshotter of containerd. */
export class SnapshotStore {
  readonly name: string;
  readonly #client: ContainerdClient;

  constructor(client: ContainerdClient, name: string) {
    this.#client = client;
    this.name = name;
  }

  /** The committed snapshot of this chain ID, if there is one. */
  async committed(chainId: string, signal: AbortSignal): Promise<SnapshotInfo | undefined> {
    const call = this.#client.call(
      api.snapshots.stat,
      this.#key(chainId),
      this.#options('look up', chainId, signal),
    );
    const info = (await unless([GrpcCode.NotFound], call))?.info;
    return info?.kind === SnapshotKind.Committed ? info : undefined;
  }

  /** Makes an empty writable snapshot; undefined when the chain ID is committed already. */
  async prepare(request: PrepareRequest, signal: AbortSignal): Promise<Mount[] | undefined> {
    const { key, parent, chainId, lease } = request;
    const message = { ...this.#key(key), parent, labels: { [SNAPSHOT_REF]: chainId } };
    const options = { ...this.#options('prepare', chainId, signal), lease };
    const call = this.#client.call(api.snapshots.prepare, message, options);
    return (await unless([GrpcCode.AlreadyExists], call))?.mounts;
  }

  /** Commits what `prepare` made; false when somebody else has committed this chain ID meanwhile. */
  async commit(request: PrepareRequest, labels: Labels, signal: AbortSignal): Promise<boolean> {
    const { key, chainId, lease } = request;
    const message = { ...this.#key(key), name: chainId, labels: { ...labels, [SNAPSHOT_REF]: chainId } };
    const options = { ...this.#options('commit', chainId, signal), lease, timeoutMs: LONG_CALL_TIMEOUT_MS };
    const call = this.#client.call(api.snapshots.commit, message, options);
    return (await unless([GrpcCode.AlreadyExists], call)) !== undefined;
  }

  async addLabels(chainId: string, labels: Labels, signal: AbortSignal): Promise<void> {
    const updateMask = { paths: Object.keys(labels).map((key) => `labels.${key}`) };
    const message = { snapshotter: this.name, info: { name: chainId, labels }, updateMask };
    await this.#client.call(api.snapshots.update, message, this.#options('label', chainId, signal));
  }

  async remove(key: string, signal: AbortSignal): Promise<void> {
    const call = this.#client.call(
      api.snapshots.remove,
      this.#key(key),
      this.#options('remove', key, signal),
    );
    await unless([GrpcCode.NotFound], call);
  }

  /** Keys of snapshots that nobody has committed. */
  async activeKeys(signal: AbortSignal): Promise<string[]> {
    const message = { snapshotter: this.name, filters: ['kind==active'] };
    const answers = await this.#client.collect(api.snapshots.list, message, {
      signal,
      doing: `list snapshots of "${this.name}"`,
    });
    return answers.flatMap(({ info }) => info.map(({ name }) => name));
  }

  #key(key: string) {
    return { snapshotter: this.name, key };
  }

  #options(verb: string, what: string, signal: AbortSignal): CallOptions {
    return { signal, doing: `${verb} snapshot "${what}"` };
  }
}
