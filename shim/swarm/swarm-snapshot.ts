import type { BlobKey } from '../base/blob-key.ts';
import type { BlobSwarm } from './blob-swarm.ts';
import type { Directory } from './directory.ts';
import type { SwarmContext } from './swarm-context.ts';

export interface BlobSnapshot {
  readonly key: BlobKey;
  readonly chunkCount: number;
  readonly chunksHeld: number;
  readonly complete: boolean;
  readonly originOnly: boolean;
  readonly neighbours: number;
  readonly followers: number;
  readonly requestsInFlight: number;
  readonly leases: number;
}

export interface SwarmSnapshot {
  readonly members: number;
  readonly connected: number;
  readonly banned: number;
  readonly uploadsInFlight: number;
  readonly requestsInFlight: number;
  readonly directoryKeys: number;
  readonly directoryLeases: number;
  readonly blobs: readonly BlobSnapshot[];
}

export function takeSnapshot(
  context: SwarmContext,
  directory: Directory,
  blobs: Iterable<BlobSwarm>,
): SwarmSnapshot {
  const { peers, bans, uploads, requests } = context;
  return {
    members: peers.othersCount,
    connected: peers.connectedCount,
    banned: bans.size,
    uploadsInFlight: uploads.used,
    requestsInFlight: requests.live,
    directoryKeys: directory.keyCount,
    directoryLeases: directory.leaseCount,
    blobs: [...blobs].map((blob) => snapshotOf(context, blob)),
  };
}

function snapshotOf(context: SwarmContext, blob: BlobSwarm): BlobSnapshot {
  let requestsInFlight = 0;
  for (const request of context.requests.values()) {
    if (request.keyId === blob.keyId && request.state === 'live') requestsInFlight++;
  }
  return {
    key: blob.key,
    chunkCount: blob.ledger.chunkCount,
    chunksHeld: blob.ledger.held.count,
    complete: blob.ledger.held.isFull,
    originOnly: blob.isOriginOnly,
    neighbours: blob.neighbours.size,
    followers: blob.followers.size,
    requestsInFlight,
    leases: context.gate.runsOf(blob.keyId).length,
  };
}
