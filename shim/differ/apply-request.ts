import type { Compression } from '../base/descriptor.ts';
import { type Digest, parseDigest } from '../base/digest.ts';
import { ErrorCode, ShoalError } from '../base/errors.ts';
import { codec } from '../containerd/api.ts';
import type { Mount, WireDescriptor } from '../containerd/messages.ts';
import { type UpperDirectory, upperDirectoryOf } from '../containerd/upper-directory.ts';

/** One layer that containerd wants applied to a prepared snapshot. */
export interface ApplyRequest {
  readonly digest: Digest;
  readonly compression: Compression;
  readonly target: UpperDirectory;
  /** Whether everything must be on disk before the answer. */
  readonly mustSync: boolean;
}

interface WireApplyRequest {
  readonly diff: WireDescriptor | null;
  readonly mounts: readonly Mount[];
  readonly syncFs: boolean;
}

const requests = codec<WireApplyRequest>('containerd.services.diff.v1.ApplyRequest');
const responses = codec<{ readonly applied: WireDescriptor }>('containerd.services.diff.v1.ApplyResponse');

const TAR = 'application/vnd.oci.image.layer.v1.tar';
const COMPRESSIONS: Readonly<Record<string, Compression>> = {
  [TAR]: 'none',
  [`${TAR}+gzip`]: 'gzip',
  [`${TAR}+zstd`]: 'zstd',
  'application/vnd.docker.image.rootfs.diff.tar': 'none',
  'application/vnd.docker.image.rootfs.diff.tar.gzip': 'gzip',
  'application/vnd.docker.image.rootfs.diff.tar.zstd': 'zstd',
};

/** Mount options that say where files go or how they are cached. Any other changes what must be written (user namespaces, metacopy). */
const KNOWN_OPTIONS = /^(?:(?:upperdir|lowerdir|workdir)=.*|index=off|rw|rbind|volatile)$/s;

/**
 * Reads a request of containerd's diff service (diff.v1, Apply).
 * @throws Unsupported for whatever is applied elsewhere: other media types (encrypted layers among them), other mounts
 */
export function decodeApplyRequest(message: Uint8Array): ApplyRequest {
  const { diff, mounts, syncFs } = requests.decode(message);
  if (diff === null) throw unsupported('no descriptor');
  const compression = COMPRESSIONS[diff.mediaType];
  if (compression === undefined) throw unsupported(`media type "${diff.mediaType}"`);
  const option = mounts.flatMap((mount) => mount.options).find((each) => !KNOWN_OPTIONS.test(each));
  if (option !== undefined) throw unsupported(`the mount option "${option}"`);
  return {
    digest: parseDigest(diff.digest),
    compression,
    target: upperDirectoryOf(mounts),
    mustSync: syncFs,
  };
}

/** The answer names the tar that was inside: its digest is the diff ID that containerd compares with the image's config. */
export function encodeApplyResponse(diffId: Digest, tarBytes: number): Buffer {
  return responses.encode({ applied: { mediaType: TAR, digest: diffId, size: tarBytes } });
}

function unsupported(found: string): ShoalError {
  return new ShoalError(
    ErrorCode.Unsupported,
    `Cannot apply the layer: found ${found}, wanted a tar layer and an overlayfs snapshot`,
  );
}
