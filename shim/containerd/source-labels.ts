import type { ImagePlan } from '../store/image-store.ts';
import type { Labels } from './messages.ts';

/** containerd's own label: which repositories of a host a blob was seen in. The host has no port there. */
const DISTRIBUTION_SOURCE = 'containerd.io/distribution.source.';
/** Ours, on blobs and snapshots: this host, with its port, let us read these bytes, and both digests were right. */
const VERIFIED_SOURCE = 'shoal.io/source.';
/** Diff ID of a layer blob. Set by whoever unpacked it. */
export const UNCOMPRESSED = 'containerd.io/uncompressed';
/** containerd refuses a label whose key and value are together longer, bytes (its `labels.Validate`). */
const LABEL_BYTES_MAX = 4096;

type Source = Pick<ImagePlan, 'host' | 'repository'>;

export function distributionKey(host: string): string {
  return DISTRIBUTION_SOURCE + hostnameOf(host);
}

export function verifiedKey(host: string): string {
  return VERIFIED_SOURCE + host;
}

/** The labels that say where a blob came from, added to those that it may have. */
export function sourceLabels(source: Source, existing: Labels): Record<string, string> {
  const key = distributionKey(source.host);
  return {
    [key]: appendRepository(key, existing[key] ?? '', source.repository),
    [verifiedKey(source.host)]: '1',
  };
}

/**
 * Whether bytes with these labels may serve a pull that names `host`. containerd's label does not tell ports apart, so it counts
 * only for hosts without one; a registry on another port of the same name is somebody else.
 */
export function isFromHost(labels: Labels, host: string): boolean {
  if (labels[verifiedKey(host)] !== undefined) return true;
  return hostnameOf(host) === host && (labels[distributionKey(host)] ?? '') !== '';
}

/** Without the port, and without the brackets of an IPv6 address, as containerd writes it. */
function hostnameOf(host: string): string {
  const bracketed = /^\[([^\]]*)\]/.exec(host)?.[1];
  return bracketed ?? host.replace(/:\d+$/, '');
}

/** A comma list in order without repeats; a list that would grow too long stays as it is. */
function appendRepository(key: string, list: string, repository: string): string {
  const repositories = list === '' ? [] : list.split(',');
  if (repositories.includes(repository)) return list;
  const longer = [...repositories, repository].sort().join(',');
  return Buffer.byteLength(key + longer) > LABEL_BYTES_MAX ? list : longer;
}
