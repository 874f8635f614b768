/** Status codes of gRPC, which ttrpc shares. */
export const Code = {
  Ok: 0,
  Canceled: 1,
  Unknown: 2,
  InvalidArgument: 3,
  DeadlineExceeded: 4,
  NotFound: 5,
  AlreadyExists: 6,
  PermissionDenied: 7,
  ResourceExhausted: 8,
  FailedPrecondition: 9,
  Aborted: 10,
  OutOfRange: 11,
  Unimplemented: 12,
  Internal: 13,
  Unavailable: 14,
  DataLoss: 15,
  Unauthenticated: 16,
} as const;
export type Code = (typeof Code)[keyof typeof Code];

/** A `google.protobuf.Any` that came with a status. */
export interface StatusDetail {
  readonly typeUrl: string;
  readonly value: Buffer;
}

export interface TtrpcErrorOptions {
  readonly cause?: unknown;
  readonly details?: readonly StatusDetail[];
}

/**
 * The one error of this package. `code` is what the other side answered, or what became of the call here:
 * `Unavailable` when the connection is gone, `DeadlineExceeded` and `Canceled` when the caller's time or patience
 * ended, `ResourceExhausted` when a limit was reached. Handlers throw it to answer with a code of their choice.
 */
export class TtrpcError extends Error {
  override readonly name = 'TtrpcError';
  /** A number from the wire: mostly one of `Code`, but others are passed on. */
  readonly code: number;
  readonly details: readonly StatusDetail[];

  constructor(code: number, message: string, { cause, details = [] }: TtrpcErrorOptions = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    this.details = details;
  }
}

/** The name of a code, such as `NotFound`; `Code(99)` for one that has none. */
export function codeName(code: number): string {
  return Object.entries(Code).find(([, value]) => value === code)?.[0] ?? `Code(${code})`;
}

/** What a thrown value becomes on the wire: a `TtrpcError` as it is, anything else code `Unknown` with its message. */
export function toTtrpcError(thrown: unknown): TtrpcError {
  if (thrown instanceof TtrpcError) return thrown;
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return new TtrpcError(Code.Unknown, message, { cause: thrown });
}
