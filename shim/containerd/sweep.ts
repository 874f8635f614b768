import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { api } from './api.ts';
import type { BlobStore } from './blob-store.ts';
import type { ContainerdClient } from './containerd-client.ts';
import { deleteLease, isExpired, OWNER_LABEL } from './lease.ts';
import { isDead, ownerOf } from './owner.ts';
import type { SnapshotStore } from './snapshot-store.ts';

export interface SweepPlaces {
  readonly client: ContainerdClient;
  readonly blobs: BlobStore;
  readonly snapshots: readonly SnapshotStore[];
  readonly stagingRoot: string | undefined;
}

/** How much was removed. */
export interface Swept {
  readonly ingests: number;
  readonly snapshots: number;
  readonly leases: number;
  readonly directories: number;
}

/**
 * Takes back what processes that are dead left half-done: ingests and writable snapshots first, then the leases, so that containerd
 * collects the rest, then directories and lock files. Whether a process is dead is told by its lock; without one its lease
 * must have run out.
 */
export async function sweep(places: SweepPlaces, nowMs: number, signal: AbortSignal): Promise<Swept> {
  const { client, blobs, stagingRoot } = places;
  const isGone = deadOwners(stagingRoot);
  const leases = await ourLeases(places, nowMs, isGone, signal);
  const goneByLease = new Set(leases.gone.map(({ owner }) => owner));
  const isOver = async (name: string): Promise<boolean> => {
    const owner = ownerOf(name);
    if (owner === undefined) return false;
    // An owner without a lock is over when none of its leases is left running.
    return isGone(owner) ?? (goneByLease.has(owner) && !leases.running.has(owner));
  };
  const ingests = await keep(await blobs.ingests(signal), isOver);
  for (const ref of ingests) await blobs.abort(ref, signal);
  let snapshots = 0;
  for (const store of places.snapshots) {
    const keys = await keep(await store.activeKeys(signal), isOver);
    for (const key of keys) await store.remove(key, signal);
    snapshots += keys.length;
  }
  for (const [index, { id }] of leases.gone.entries())
    await deleteLease(client, id, index === leases.gone.length - 1, signal);
  const directories = await sweepDirectories(stagingRoot, isOver);
  return { ingests: ingests.length, snapshots, leases: leases.gone.length, directories };
}

type IsGone = (owner: string) => boolean | undefined;

/** Asks once for each owner: a lock that was seen free stays free, for names are never used again. */
function deadOwners(directory: string | undefined): IsGone {
  const known = new Map<string, boolean | undefined>();
  return (owner) => {
    const answer = known.has(owner) ? known.get(owner) : isDead(directory, owner);
    known.set(owner, answer);
    return answer;
  };
}

async function ourLeases({ client }: SweepPlaces, nowMs: number, isGone: IsGone, signal: AbortSignal) {
  const options = { signal, doing: 'list leases' };
  const { leases } = await client.call(api.leases.list, { filters: [`labels."${OWNER_LABEL}"`] }, options);
  const gone: { id: string; owner: string }[] = [];
  const running = new Set<string>();
  for (const { id, labels } of leases) {
    const owner = labels[OWNER_LABEL];
    if (owner === undefined) continue;
    if (isGone(owner) ?? isExpired(labels, nowMs)) gone.push({ id, owner });
    else running.add(owner);
  }
  return { gone, running };
}

async function sweepDirectories(
  stagingRoot: string | undefined,
  isOver: (name: string) => Promise<boolean>,
): Promise<number> {
  if (stagingRoot === undefined) return 0;
  const names = await readdir(stagingRoot);
  const trees = await keep(names, isOver);
  for (const name of trees) await rm(join(stagingRoot, name), { recursive: true, force: true });
  // The lock goes last: while it is there, a sweep that was cut off is taken up again.
  const locks = await keep(
    names.filter((name) => name.endsWith('.lock')),
    (name) => isOver(`shoal-${name.slice(0, -'.lock'.length)}-`),
  );
  for (const name of locks) await rm(join(stagingRoot, name), { force: true });
  return trees.length;
}

async function keep(names: readonly string[], wanted: (name: string) => Promise<boolean>): Promise<string[]> {
  const answers = await Promise.all(names.map(wanted));
  return names.filter((_, index) => answers[index]);
}
