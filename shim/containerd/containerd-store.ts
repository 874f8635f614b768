import { randomUUID } from 'node:crypto';
import { mkdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ErrorCode, nodeErrorCode, ShoalError, throwIfAborted } from '../base/errors.ts';
import { settleAll } from '../base/settle-all.ts';
import type { ImagePlan, ImageStore, ImportSession, WarmSession } from '../store/image-store.ts';
import { BlobStore } from './blob-store.ts';
import { ContainerdClient } from './containerd-client.ts';
import { DEFAULT_CONFIG_FILE } from './containerd-config.ts';
import { discardsUnpackedLayers } from './discarded-layers.ts';
import { hasRecord } from './image-records.ts';
import { refuseImageVerifiers } from './image-verifiers.ts';
import { ContainerdSession } from './import-session.ts';
import { Lease } from './lease.ts';
import { Leftovers } from './leftovers.ts';
import { Owner } from './owner.ts';
import { findPresentLayers } from './present-layers.ts';
import {
  type ContainerdSetup,
  DIRECT_SNAPSHOTTER,
  probeContainerd,
  type Snapshotter,
  unpackerFor,
} from './probe.ts';
import { SnapshotStore } from './snapshot-store.ts';
import { type SweepPlaces, type Swept, sweep, sweepSessions } from './sweep.ts';

/** Beside `snapshots/`, which is the snapshotter's own. */
const STAGING = 'shoal-staging';
/** containerd may be restarted with other settings at any time; asking again takes a few milliseconds. */
const SETUP_AGE_MAX_MS = 30_000;
/** Taking back a lease must not keep the pull's failure from its caller for long. */
const LEASE_DELETE_TIMEOUT_MS = 10_000;

export interface ContainerdStoreOptions {
  /** Path of containerd's gRPC socket. */
  readonly socket: string;
  /** Default `k8s.io`, the one that CRI uses. */
  readonly namespace?: string;
  /** A directory of our own on the file system of the overlayfs snapshotter. Default: beside its `snapshots/`. */
  readonly stagingRoot?: string;
  /** Default: what CRI says for the pull's runtime handler. */
  readonly snapshotter?: string;
  /** Whether layer blobs are left out once unpacked. Default: what CRI says (1.7), else containerd's configuration. */
  readonly discardUnpackedLayers?: boolean;
  /** containerd's configuration file: it tells where image verifiers are, and whether unpacked layers are discarded. Default: containerd's own default. */
  readonly configFile?: string;
}

/** What is known of containerd and the image when a session is opened. */
interface Opening {
  readonly setup: ContainerdSetup;
  readonly snapshotter: Snapshotter | undefined;
  readonly plan: ImagePlan;
}

/** Opens the image store of a running containerd. @throws StoreUnavailable, ConfigInvalid (staging root on another file system) */
export async function openContainerdStore(
  options: ContainerdStoreOptions,
  signal: AbortSignal = new AbortController().signal,
): Promise<ContainerdStore> {
  const client = new ContainerdClient(options.socket, options.namespace ?? 'k8s.io');
  try {
    const setup = await probeContainerd(client, signal);
    const stagingRoot = await makeStagingRoot(options, setup);
    return new ContainerdStore(options, client, setup, stagingRoot, Owner.claim(stagingRoot));
  } catch (error) {
    client.close();
    throw error;
  }
}

/** Images in a real containerd. */
export class ContainerdStore implements ImageStore {
  readonly kind = 'containerd';
  /** Where layers are extracted; undefined when containerd has to do it. */
  readonly stagingRoot: string | undefined;
  readonly #options: ContainerdStoreOptions;
  readonly #client: ContainerdClient;
  readonly #owner: Owner;
  readonly #sessions = new Set<ContainerdSession>();
  readonly #removals = new Set<Promise<void>>();
  readonly #leftovers: Leftovers;
  #setup: ContainerdSetup;
  #setupAtMs = performance.now();
  #opened = 0;

  constructor(
    options: ContainerdStoreOptions,
    client: ContainerdClient,
    setup: ContainerdSetup,
    stagingRoot: string | undefined,
    owner: Owner,
  ) {
    this.#options = options;
    this.#client = client;
    this.#setup = setup;
    this.stagingRoot = stagingRoot;
    this.#owner = owner;
    this.#leftovers = new Leftovers(owner.id, async (isOver, signal) =>
      sweepSessions(await this.#places(signal), isOver, signal),
    );
  }

  /** As it was when last asked. */
  get containerdVersion(): string {
    return this.#setup.version;
  }

  /** How containerd is set up, asked anew when the last answer is old. @throws StoreUnavailable */
  async setup(signal: AbortSignal): Promise<ContainerdSetup> {
    if (performance.now() - this.#setupAtMs > SETUP_AGE_MAX_MS) {
      this.#setup = await probeContainerd(this.#client, signal);
      this.#setupAtMs = performance.now();
    }
    return this.#setup;
  }

  /** @throws Unsupported when the pull is containerd's own (remote snapshotter, image verifiers), StoreUnavailable, StoreFailed */
  async open(plan: ImagePlan, signal: AbortSignal): Promise<ImportSession> {
    const session = await this.#openSession(plan, signal);
    session.beginDocuments(signal);
    return session;
  }

  openWarm(plan: ImagePlan, signal: AbortSignal): Promise<WarmSession> {
    return this.#openSession(plan, signal);
  }

  async has(name: string, signal: AbortSignal): Promise<boolean> {
    return await hasRecord(this.#client, name, signal);
  }

  async #openSession(plan: ImagePlan, signal: AbortSignal): Promise<ContainerdSession> {
    throwIfAborted(signal, 'open containerd');
    const setup = await this.setup(signal);
    const snapshotter = this.#snapshotter(setup, plan);
    this.#opened += 1;
    const name = `shoal-${this.#owner.id}-${this.#opened}`;
    this.#leftovers.begin(name);
    const lease = new Lease({ client: this.#client, name, owner: this.#owner.id });
    try {
      return await this.#openUnder(lease, name, { setup, snapshotter, plan }, signal);
    } catch (error) {
      const deleted = lease.delete(AbortSignal.timeout(LEASE_DELETE_TIMEOUT_MS));
      const clean = await deleted.then(
        () => true,
        () => false,
      );
      this.#leftovers.end(name, clean);
      throw error;
    }
  }

  /** Removes what dead processes of ours left in containerd and on disk. Called at start; touches nothing of live ones. */
  async sweep(signal: AbortSignal): Promise<Swept> {
    return await sweep(await this.#places(signal), Date.now(), signal);
  }

  /** Aborts what is open and waits for everything to be removed. */
  async close(): Promise<void> {
    await Promise.all([...this.#sessions].map((session) => session.abort()));
    await Promise.all(this.#removals);
    await this.#leftovers.close();
    await this.#owner.release();
    this.#client.close();
  }

  async #places(signal: AbortSignal): Promise<SweepPlaces> {
    const setup = await this.setup(signal);
    const snapshotters = setup.snapshotters.filter(({ name }) => name === DIRECT_SNAPSHOTTER);
    return {
      client: this.#client,
      blobs: new BlobStore(this.#client, setup.contentRoot),
      snapshots: snapshotters.map(({ name }) => new SnapshotStore(this.#client, name)),
      stagingRoot: this.stagingRoot,
    };
  }

  async #openUnder(
    lease: Lease,
    name: string,
    { setup, snapshotter, plan }: Opening,
    signal: AbortSignal,
  ): Promise<ContainerdSession> {
    const blobs = new BlobStore(this.#client, setup.contentRoot);
    const direct = this.#direct(snapshotter, name);
    const nowMs = (): number => Date.now();
    const keeping = this.#keepsLayers(setup);
    const query = { plan, blobs, snapshots: direct?.snapshots, keepLayers: keeping, lease, nowMs };
    const [keepLayers, present] = await settleAll([
      keeping,
      findPresentLayers(query, signal),
      lease.current(nowMs(), signal),
      setup.verifiesImages ? refuseImageVerifiers(this.#configFile) : undefined,
    ]);
    const session = new ContainerdSession({
      client: this.#client,
      blobs,
      lease,
      plan,
      present,
      name,
      direct,
      keepLayers,
      nowMs,
      onEnd: (ended) => this.#ended(ended),
      onReleased: (clean) => this.#leftovers.end(name, clean),
    });
    this.#sessions.add(session);
    return session;
  }

  get #configFile(): string {
    return this.#options.configFile ?? DEFAULT_CONFIG_FILE;
  }

  async #keepsLayers({ cri }: ContainerdSetup): Promise<boolean> {
    const discards = this.#options.discardUnpackedLayers ?? cri.discardUnpackedLayers;
    return !(discards ?? (await discardsUnpackedLayers(this.#configFile)));
  }

  #direct(snapshotter: Snapshotter | undefined, name: string) {
    if (unpackerFor(snapshotter) !== 'shoal' || this.stagingRoot === undefined) return undefined;
    return {
      snapshots: new SnapshotStore(this.#client, DIRECT_SNAPSHOTTER),
      stagingDirectory: join(this.stagingRoot, name),
    };
  }

  /** Undefined when nobody can tell which one containerd would take: then containerd unpacks. */
  #snapshotter(setup: ContainerdSetup, plan: ImagePlan): Snapshotter | undefined {
    const name = this.#options.snapshotter ?? setup.cri.snapshotterOf(plan.runtimeHandler);
    const snapshotter = setup.snapshotters.find((each) => each.name === name);
    if (unpackerFor(snapshotter) === 'snapshotter')
      throw new ShoalError(
        ErrorCode.Unsupported,
        `Cannot import into snapshotter "${name}": it mounts layers from elsewhere, containerd has to pull`,
      );
    return snapshotter;
  }

  /** Big trees take seconds to remove; nobody waits for that but `close`. */
  #ended(session: ContainerdSession): void {
    this.#sessions.delete(session);
    const path = session.stagingPath;
    if (path === undefined) return;
    const removal = removeStaging(path);
    this.#removals.add(removal);
    removal.finally(() => this.#removals.delete(removal));
  }
}

/** Never rejects: what stays is swept. The rename frees the name at once. */
async function removeStaging(path: string): Promise<void> {
  const doomed = `${path}-${randomUUID()}`;
  try {
    await rename(path, doomed);
    await rm(doomed, { recursive: true, force: true });
  } catch {
    // Nothing was staged, or the disk is failing.
  }
}

async function makeStagingRoot(
  options: ContainerdStoreOptions,
  setup: ContainerdSetup,
): Promise<string | undefined> {
  const overlayfs = setup.snapshotters.find(({ name }) => name === DIRECT_SNAPSHOTTER);
  if (overlayfs?.root === undefined || unpackerFor(overlayfs) !== 'shoal') return undefined;
  const path = options.stagingRoot ?? join(overlayfs.root, STAGING);
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
    const [staging, snapshots] = await Promise.all([stat(path), stat(join(overlayfs.root, 'snapshots'))]);
    if (staging.dev === snapshots.dev) return path;
  } catch (error) {
    // Not root, or a read-only view: containerd can still unpack.
    if (options.stagingRoot === undefined) return undefined;
    throw stagingError(path, nodeErrorCode(error) ?? 'unknown error');
  }
  throw stagingError(path, 'it is not on the file system of the overlayfs snapshotter');
}

function stagingError(path: string, found: string): ShoalError {
  return new ShoalError(ErrorCode.ConfigInvalid, `Cannot stage layers in "${path}": ${found}`);
}
