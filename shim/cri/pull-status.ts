import { ErrorCode, type ShoalError } from '../base/errors.ts';
import { GrpcCode, type GrpcStatus } from './grpc-wire.ts';

/**
 * The gRPC status of a pull that failed, with the codes and wording of that containerd (2.1's where its version is empty): tools match on them. kubelet drops the
 * code only of Unknown, and takes its reason from the first word of the bare message, so `RegistryUnavailable` must
 * be Unknown and stand first. An error that knows the normalised name gives it as the fact `reference`.
 */
export function pullStatus(error: ShoalError, image: string, containerdVersion: string): GrpcStatus {
  const name = String(error.facts.reference ?? image);
  const what = `failed to pull and unpack image "${name}"`;
  const isOld = /^v?1\./.test(containerdVersion);
  const resolve = `${what}: failed to resolve ${isOld ? `reference "${name}"` : 'image'}`;
  switch (error.code) {
    case ErrorCode.Cancelled:
      return { code: GrpcCode.Cancelled, message: `${what}: context canceled` };
    case ErrorCode.NotFound:
      // The image itself is missing, or content that it is made of.
      if (error.facts.content === undefined) return notFound(`${resolve}: ${name}`);
      return notFound(
        `${what}: ${COPY}: could not fetch content descriptor ${error.facts.content} from remote`,
      );
    case ErrorCode.InvalidReference:
      return unknown(`failed to parse image reference "${image}": ${error.message}`);
    case ErrorCode.Unauthorized:
      return unknown(`${resolve}: ${DENIED}: authorization failed: 401 Unauthorized: ${error.message}`);
    case ErrorCode.Forbidden:
      return unknown(`${resolve}: unexpected status 403 Forbidden: ${error.message}`);
    case ErrorCode.RegistryUnavailable:
    case ErrorCode.RateLimited:
      return unknown(`RegistryUnavailable: ${what}: ${error.message}`);
    case ErrorCode.LimitExceeded:
      return { code: GrpcCode.ResourceExhausted, message: `${what}: ${error.message}` };
    case ErrorCode.StoreUnavailable:
      return { code: GrpcCode.Unavailable, message: `${what}: ${error.message}` };
    default:
      return unknown(`${what}: ${error.message}`);
  }
}

const COPY = 'failed to copy: httpReadSeeker: failed open';
const DENIED = 'pull access denied, repository does not exist or may require authorization';

/** The caller's deadline has passed; the words are those of grpc-go. */
export const DEADLINE_STATUS: GrpcStatus = {
  code: GrpcCode.DeadlineExceeded,
  message: 'context deadline exceeded',
};

function notFound(what: string): GrpcStatus {
  return { code: GrpcCode.NotFound, message: `${what}: not found` };
}

function unknown(message: string): GrpcStatus {
  return { code: GrpcCode.Unknown, message };
}
