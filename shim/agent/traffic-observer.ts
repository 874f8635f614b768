import type { BlobKey } from '../base/blob-key.ts';
import { type AuditLog, AuditOperation } from '../observe/audit-log.ts';
import type { Metrics } from '../observe/metrics.ts';
import type { TrafficType } from '../observe/traffic-meter.ts';
import type { TransferEvent, TransferObserver, TransferOperation } from '../peer/transfer-observer.ts';

interface Traffic {
  readonly type: TrafficType;
  /** What comes from a peer is audited where it was sent, and where it is written. */
  readonly audited?: AuditOperation;
}

const traffic: Readonly<Record<TransferOperation, Traffic>> = {
  originRead: { type: 'download', audited: AuditOperation.Download },
  peerRead: { type: 'peer' },
  chunkServed: { type: 'peer', audited: AuditOperation.RpcPread },
  cacheWrite: { type: 'disk', audited: AuditOperation.FileWrite },
  cacheRead: { type: 'disk', audited: AuditOperation.FileRead },
};

/** Brings what the transfer engine does into the metrics, as latencies, and into the audit log if there is one. */
export function createTrafficObserver(
  metrics: Pick<Metrics, 'recordLatency'>,
  audit: AuditLog | undefined,
): TransferObserver {
  return {
    observe: ({ operation, key, ...request }: TransferEvent) => {
      const { type, audited } = traffic[operation];
      metrics.recordLatency(type, request.latencyUs);
      if (audit !== undefined && audited !== undefined)
        audit.write({ operation: audited, url: blobUrl(key), ...request });
    },
  };
}

/** The blob's name and not an address: blobs of one registry are shared by all its repositories. */
function blobUrl({ host, digest }: BlobKey): string {
  return `https://${host}/${digest}`;
}
