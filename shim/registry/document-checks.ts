import type { Descriptor } from '../base/descriptor.ts';
import { type Digest, digestOf, isDigest } from '../base/digest.ts';
import { ErrorCode, ShoalError } from '../base/errors.ts';
import type { HttpResponse } from './transport.ts';

/** The digest of what a reference resolved to, checked against the registry's header and the reference. */
export function checkResolved(
  response: HttpResponse,
  bytes: Uint8Array,
  wanted: Digest | undefined,
  doing: string,
): Digest {
  const digest = digestOf(bytes);
  const announced = response.header('docker-content-digest');
  const mismatch = (found: string) =>
    new ShoalError(ErrorCode.DigestMismatch, `Cannot ${doing}: ${response.host} sent "${digest}", ${found}`);
  if (wanted !== undefined && wanted !== digest) throw mismatch(`"${wanted}" wanted`);
  if (announced !== undefined && isDigest(announced) && announced !== digest)
    throw mismatch(`but its header says "${announced}"`);
  return digest;
}

export function checkContent(bytes: Uint8Array, descriptor: Descriptor, doing: string): void {
  const { digest, sizeBytes } = descriptor;
  if (bytes.length !== sizeBytes)
    throw new ShoalError(
      ErrorCode.SizeMismatch,
      `Cannot ${doing}: ${bytes.length} bytes found, ${sizeBytes} wanted`,
    );
  const found = digestOf(bytes);
  if (found !== digest)
    throw new ShoalError(ErrorCode.DigestMismatch, `Cannot ${doing}: "${found}" found, "${digest}" wanted`);
}

/** The media type in the registry's words, unless it only says that this is text or JSON. */
export function announcedMediaType(response: HttpResponse): string | undefined {
  const announced = (response.header('content-type') ?? '').split(';')[0]?.trim().toLowerCase() ?? '';
  return announced.startsWith('application/vnd.') ? announced : undefined;
}

/** The registry's media type; the document's own where the registry names none. */
export function mediaTypeOf(response: HttpResponse, bytes: Uint8Array): string {
  return announcedMediaType(response) ?? ownMediaType(bytes) ?? '';
}

function ownMediaType(bytes: Uint8Array): string | undefined {
  try {
    const { mediaType, schemaVersion } = JSON.parse(new TextDecoder().decode(bytes)) as Record<
      string,
      unknown
    >;
    if (typeof mediaType === 'string') return mediaType;
    return schemaVersion === 1 ? 'application/vnd.docker.distribution.manifest.v1+json' : undefined;
  } catch {
    // Not JSON: the parser of manifests says so.
    return undefined;
  }
}
