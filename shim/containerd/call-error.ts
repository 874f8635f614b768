import { type ServiceError, status } from '@grpc/grpc-js';
import { cancelled, ErrorCode, ShoalError } from '../base/errors.ts';

export const GrpcCode = {
  NotFound: status.NOT_FOUND,
  AlreadyExists: status.ALREADY_EXISTS,
  FailedPrecondition: status.FAILED_PRECONDITION,
  OutOfRange: status.OUT_OF_RANGE,
  Unimplemented: status.UNIMPLEMENTED,
  Unavailable: status.UNAVAILABLE,
} as const;

/** The one place where containerd's answers become ours. `doing` fits `Cannot <doing>`. */
export function callError(error: ServiceError, doing: string, signal: AbortSignal): ShoalError {
  if (signal.aborted) return cancelled(signal, doing);
  const message = `Cannot ${doing}: containerd answered code ${error.code} "${error.details}"`;
  const facts = { grpcCode: error.code };
  const unavailable = error.code === status.UNAVAILABLE || error.code === status.DEADLINE_EXCEEDED;
  if (unavailable)
    return new ShoalError(ErrorCode.StoreUnavailable, message, { cause: error, facts, retriable: true });
  return new ShoalError(ErrorCode.StoreFailed, message, { cause: error, facts });
}

/** Whether containerd answered with this code. */
export function isGrpcCode(error: unknown, ...codes: number[]): boolean {
  return error instanceof ShoalError && codes.some((code) => error.facts.grpcCode === code);
}

/** Gives undefined in place of an error with one of these codes. */
export async function unless<T>(codes: readonly number[], call: Promise<T>): Promise<T | undefined> {
  try {
    return await call;
  } catch (error) {
    if (isGrpcCode(error, ...codes)) return undefined;
    throw error;
  }
}
