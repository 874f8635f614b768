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
  const isGone = deadOwners(places.stagingRoot);
  const leases = await ourLeases(places, nowMs, isGone, signal);
  const goneByLease = new Set(leases.gone.map(({ owner }) => owner));
  const isOver = (name: string): boolean => {
    const owner = ownerOf(name);
    if (owner === undefined) return false;
    // An owner without a lock is over when none of its leases is left running.
    return isGone(owner) ?? (goneByLease.has(owner) && !leases.running.has(owner));
  };
  const ids = leases.gone.map(({ id }) => id);
  const taken = await takeBack(places, isOver, ids, signal);
  const directories = await sweepDirectories(places.stagingRoot, isOver);
  return { ...taken, leases: ids.length, directories };
}

/**
 * Takes back what sessions of this process left that could not do it themselves. `isOver`: whether a name is one of theirs;
 * it is asked after the names were listed. Staging directories are not containerd's: each session removes its own.
 */
export async function sweepSessions(
  places: SweepPlaces,
  isOver: (name: string) => boolean,
  signal: AbortSignal,
): Promise<void> {
  const leases = await listLeases(places.client, signal);
  const ids = leases.map(({ id }) => id).filter(isOver);
  await takeBack(places, isOver, ids, signal);
}

/** Leases last: until then nothing is collected, and a take-back that is cut off is found again. */
async function takeBack(
  places: SweepPlaces,
  isOver: (name: string) => boolean,
  leases: readonly string[],
  signal: AbortSignal,
): Promise<Pick<Swept, 'ingests' | 'snapshots'>> {
  const { client, blobs } = places;
  const ingests = (await blobs.ingests(signal)).filter(isOver);
  for (const ref of ingests) await blobs.abort(ref, signal);
  let snapshots = 0;
  for (const store of places.snapshots) {
    const keys = (await store.activeKeys(signal)).filter(isOver);
    for (const key of keys) await store.remove(key, signal);
    snapshots += keys.length;
  }
  for (const [index, id] of leases.entries())
    await deleteLease(client, id, index === leases.length - 1, signal);
  return { ingests: ingests.length, snapshots };
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
  const leases = await listLeases(client, signal);
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

async function listLeases(client: ContainerdClient, signal: AbortSignal) {
  const options = { signal, doing: 'list leases' };
  const filters = [`labels."${OWNER_LABEL}"`];
  return (await client.call(api.leases.list, { filters }, options)).leases;
}

async function sweepDirectories(
  stagingRoot: string | undefined,
  isOver: (name: string) => boolean,
): Promise<number> {
  if (stagingRoot === undefined) return 0;
  const names = await readdir(stagingRoot);
  const trees = names.filter(isOver);
  for (const name of trees) await rm(join(stagingRoot, name), { recursive: true, force: true });
  // The lock goes last: while it is there, a sweep that was cut off is taken up again.
  const isOverLock = (name: string): boolean =>
    name.endsWith('.lock') && isOver(`shoal-${name.slice(0, -'.lock'.length)}-`);
  for (const name of names.filter(isOverLock)) await rm(join(stagingRoot, name), { force: true });
  return trees.length;
}
