import { cancelled, ErrorCode, isShoalError, nodeErrorCode, ShoalError } from '../base/errors.ts';

const TIMEOUT_CODES = new Set(['UND_ERR_HEADERS_TIMEOUT', 'UND_ERR_BODY_TIMEOUT', 'UND_ERR_CONNECT_TIMEOUT']);
const LENGTH_CODES = new Set(['UND_ERR_RES_CONTENT_LENGTH_MISMATCH', 'UND_ERR_RES_EXCEEDED_MAX_SIZE']);
/** Trying again does not make another certificate. */
const CERTIFICATE_PATTERN = /CERT|^UNABLE_TO_|SELF_SIGNED|^ERR_TLS_|^ERR_SSL_/;
/** What a TLS client sees when the other side answers in plain HTTP. */
const PLAIN_HTTP_CODES = new Set([
  'ERR_SSL_WRONG_VERSION_NUMBER',
  'ERR_SSL_PACKET_LENGTH_TOO_LONG',
  'EPROTO',
]);

/**
 * Maps what the HTTP client threw. The original is not kept as a cause: parser and URL errors carry raw bytes and
 * URLs, which may hold secrets; the code says what happened.
 */
export function mapHttpError(error: unknown, doing: string, host: string, signal?: AbortSignal): ShoalError {
  if (isShoalError(error)) return error;
  if (signal?.aborted) return cancelled(signal, doing);
  const code = nodeErrorCode(error) ?? (error instanceof Error ? error.name : 'unknown error');
  const message = (found: string) => `Cannot ${doing}: ${host} ${found}`;
  if (TIMEOUT_CODES.has(code)) return unavailable(message(`was silent for too long (${code})`), host, true);
  if (code.startsWith('HPE_') || code === 'UND_ERR_INVALID_ARG')
    return new ShoalError(ErrorCode.RegistryProtocol, message(`does not speak HTTP as it should (${code})`));
  if (LENGTH_CODES.has(code))
    return new ShoalError(ErrorCode.SizeMismatch, message('sent another length than it announced'));
  if (code === 'UND_ERR_HEADERS_OVERFLOW')
    return new ShoalError(ErrorCode.LimitExceeded, message('sent more headers than we read'));
  if (CERTIFICATE_PATTERN.test(code)) return unavailable(message(`cannot be trusted (${code})`), host, false);
  return unavailable(message(`cannot be reached or went away (${code})`), host, true);
}

export function isPlainHttpAnswer(error: unknown): boolean {
  return PLAIN_HTTP_CODES.has(nodeErrorCode(error) ?? '');
}

function unavailable(message: string, host: string, retriable: boolean): ShoalError {
  return new ShoalError(ErrorCode.RegistryUnavailable, message, { retriable, facts: { host } });
}
