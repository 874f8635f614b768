import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isShoalError } from '../base/errors.ts';
import { api } from './api.ts';
import type { ContainerdClient } from './containerd-client.ts';
import { type CriSetup, criSetupOf } from './cri-setup.ts';
import type { Plugin } from './messages.ts';

/** The only snapshotter whose directories we write to ourselves. */
export const DIRECT_SNAPSHOTTER = 'overlayfs';
const CONTENT_PLUGIN = 'io.containerd.content.v1';
const SNAPSHOTTER_PLUGIN = 'io.containerd.snapshotter.v1';
/** 2.0 on. */
const VERIFIER_PLUGIN = 'io.containerd.image-verifier.v1';

/** What a running containerd told about itself. */
export interface ContainerdSetup {
  readonly version: string;
  /** Directory of the content store as containerd sees it. */
  readonly contentRoot: string | undefined;
  readonly snapshotters: readonly Snapshotter[];
  /** It runs image verifiers, if there are any. */
  readonly verifiesImages: boolean;
  readonly cri: CriSetup;
}

export interface Snapshotter {
  readonly name: string;
  readonly root: string | undefined;
  /** It mounts layers from elsewhere instead of unpacking them. */
  readonly remote: boolean;
  /** A process of its own, about whose files nothing is known. */
  readonly proxied: boolean;
  /** Directory of the snapshots, if this process can see it. */
  readonly visible: boolean;
}

/** Asks containerd how it is set up. @throws StoreUnavailable */
export async function probeContainerd(
  client: ContainerdClient,
  signal: AbortSignal,
): Promise<ContainerdSetup> {
  const [{ version }, { plugins }] = await Promise.all([
    client.call(api.version.version, {}, { signal, doing: 'ask for the version' }),
    client.call(api.introspection.plugins, { filters: [] }, { signal, doing: 'ask for the plugins' }),
  ]);
  const working = plugins.filter((plugin) => plugin.initErr === null);
  const snapshotters = await Promise.all(
    working.filter(({ type }) => type === SNAPSHOTTER_PLUGIN).map(snapshotterOf),
  );
  return {
    version,
    contentRoot: working.find(({ type }) => type === CONTENT_PLUGIN)?.exports.root,
    snapshotters,
    verifiesImages: working.some(({ type }) => type === VERIFIER_PLUGIN),
    cri: await askCri(client, snapshotters, signal),
  };
}

/** Names of snapshotters that mount what they have not unpacked, beside those that say so themselves. */
const REMOTE_SNAPSHOTTERS: ReadonlySet<string> = new Set([
  'stargz',
  'nydus',
  'overlaybd',
  'soci',
  'cvmfs-snapshotter',
]);

async function snapshotterOf(plugin: Plugin): Promise<Snapshotter> {
  const { root } = plugin.exports;
  return describeSnapshotter(plugin, root !== undefined && (await isDirectory(join(root, 'snapshots'))));
}

/** `visible`: this process sees the directory of the snapshots. */
export function describeSnapshotter({ id, exports }: Plugin, visible: boolean): Snapshotter {
  return {
    name: id,
    root: exports.root,
    remote: REMOTE_SNAPSHOTTERS.has(id) || exports.enable_remote_snapshot_annotations === 'true',
    proxied: exports.address !== undefined,
    visible,
  };
}

/**
 * Who gives an image its trees: Shoal, containerd from blobs that Shoal committed, or neither, because the snapshotter mounts layers from
 * elsewhere and the whole pull is its own. Undefined: nobody can tell which one containerd would take.
 */
export function unpackerFor(snapshotter: Snapshotter | undefined): 'shoal' | 'containerd' | 'snapshotter' {
  if (snapshotter === undefined) return 'containerd';
  if (snapshotter.remote) return 'snapshotter';
  const { name, visible, proxied } = snapshotter;
  return name === DIRECT_SNAPSHOTTER && visible && !proxied ? 'shoal' : 'containerd';
}

/** A containerd without its CRI plugin is no node's, but a store all the same. */
async function askCri(
  client: ContainerdClient,
  snapshotters: readonly Snapshotter[],
  signal: AbortSignal,
): Promise<CriSetup> {
  const [info, mountpoints] = await Promise.all([
    orElse(undefined, async () => {
      const doing = 'ask for the CRI status';
      return (await client.call(api.cri.status, { verbose: true }, { signal, doing })).info.config;
    }),
    orElse([], async () => {
      const answer = await client.call(
        api.cri.imageFsInfo,
        {},
        { signal, doing: 'ask for the image file systems' },
      );
      return answer.imageFilesystems.map(({ fsId }) => fsId?.mountpoint ?? '');
    }),
  ]);
  const used = snapshotters.filter(({ root }) => root !== undefined && mountpoints.includes(root));
  return criSetupOf(
    info,
    used.map(({ name }) => name),
  );
}

/** The answer, or `fallback` when containerd refuses to give one (no CRI plugin, or not ready yet). */
async function orElse<T>(fallback: T, ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (error) {
    if (isShoalError(error, 'STORE_FAILED')) return fallback;
    throw error;
  }
}

async function isDirectory(path: string): Promise<boolean> {
  return await stat(path).then(
    (stats) => stats.isDirectory(),
    () => false,
  );
}
