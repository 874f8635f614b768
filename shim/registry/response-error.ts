import { ErrorCode, ShoalError } from '../base/errors.ts';
import { readBody } from './http-body.ts';
import { ERROR_BODY_BYTES_MAX, ERROR_BODY_TIMEOUT_MS, ERROR_TEXT_LENGTH_MAX } from './limits.ts';
import type { Redactor } from './redaction.ts';
import type { HttpResponse } from './transport.ts';

/** Longest Retry-After believed, ms: one day. */
const RETRY_AFTER_MS_MAX = 24 * 3600 * 1000;

/** Turns a response that is no success into the error it means, with the registry's own words; reads and ends its body. */
export async function responseError(
  response: HttpResponse,
  doing: string,
  redactor: Redactor,
  signal: AbortSignal,
): Promise<ShoalError> {
  const said = await explanation(response, redactor, signal);
  const message = `Cannot ${doing}: ${response.host} answered ${response.status}${said === '' ? '' : ` (${said})`}`;
  const code = codeOfStatus(response.status);
  const retriable = code === ErrorCode.RegistryUnavailable || code === ErrorCode.RateLimited;
  const retryAfterMs = retriable ? parseRetryAfter(response.header('retry-after'), Date.now()) : undefined;
  const facts = { host: response.host, status: response.status };
  return new ShoalError(code, message, {
    retriable,
    facts,
    ...(retryAfterMs !== undefined && { retryAfterMs }),
  });
}

/** The error that a status stands for in the distribution spec. */
export function codeOfStatus(status: number): ErrorCode {
  if (status === 401) return ErrorCode.Unauthorized;
  if (status === 403) return ErrorCode.Forbidden;
  if (status === 404) return ErrorCode.NotFound;
  if (status === 416) return ErrorCode.SizeMismatch;
  if (status === 429) return ErrorCode.RateLimited;
  if (status === 408 || status >= 500) return ErrorCode.RegistryUnavailable;
  return ErrorCode.RegistryProtocol;
}

/** Retry-After (RFC 9110, 10.2.3) in ms from now: seconds or a date. */
export function parseRetryAfter(text: string | undefined, nowMs: number): number | undefined {
  if (text === undefined) return undefined;
  const waitMs = /^\d{1,9}$/.test(text.trim()) ? Number(text) * 1000 : Date.parse(text) - nowMs;
  return Number.isNaN(waitMs) ? undefined : Math.min(Math.max(0, waitMs), RETRY_AFTER_MS_MAX);
}

/** `CODE: message` of the spec's error body, or nothing: pages of HTML explain nothing in one line. */
async function explanation(response: HttpResponse, redactor: Redactor, signal: AbortSignal): Promise<string> {
  try {
    const limited = AbortSignal.any([signal, AbortSignal.timeout(ERROR_BODY_TIMEOUT_MS)]);
    const giveUp = () => response.body.destroy();
    limited.addEventListener('abort', giveUp, { once: true });
    try {
      const bytes = await readBody(response, {
        bytesMax: ERROR_BODY_BYTES_MAX,
        doing: 'read the error',
        signal: limited,
      });
      return redactor.clean(firstError(JSON.parse(new TextDecoder().decode(bytes))), ERROR_TEXT_LENGTH_MAX);
    } finally {
      limited.removeEventListener('abort', giveUp);
    }
  } catch {
    return '';
  }
}

/** OCI distribution spec, "Error Codes"; token servers use `details` or RFC 6749's `error`. */
function firstError(body: unknown): string {
  if (typeof body !== 'object' || body === null) return '';
  const { errors, error, error_description: description, details } = body as Record<string, unknown>;
  if (Array.isArray(errors)) {
    const { code, message } = (errors[0] ?? {}) as Record<string, unknown>;
    return [code, message].filter((part) => typeof part === 'string' && part !== '').join(': ');
  }
  return [error, description ?? details].filter((part) => typeof part === 'string').join(': ');
}
