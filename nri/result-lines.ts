import type { PullResult } from '../shim/agent/control-protocol.ts';
import { ErrorCode, ShoalError } from '../shim/base/errors.ts';

/** A result is half a kilobyte, its image's name at most one more, bytes. */
export const LINE_BYTES_MAX = 16 * 1024;

const NEWLINE = 0x0a;

/** Turns what arrives from `/v1/pods/results` into results, however it was cut. Lines that are none are left out. */
export class ResultLines {
  #rest: Buffer = Buffer.alloc(0);

  /** @throws ShoalError `LimitExceeded` for a line without an end. */
  feed(chunk: Buffer): PullResult[] {
    let bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    const results: PullResult[] = [];
    for (let end = bytes.indexOf(NEWLINE); end >= 0; end = bytes.indexOf(NEWLINE)) {
      const result = parseResult(bytes.toString('utf8', 0, end));
      if (result !== undefined) results.push(result);
      bytes = bytes.subarray(end + 1);
    }
    if (bytes.length > LINE_BYTES_MAX)
      throw new ShoalError(
        ErrorCode.LimitExceeded,
        `Cannot read results: found a line of over ${LINE_BYTES_MAX} bytes`,
      );
    this.#rest = bytes;
    return results;
  }
}

/** Undefined for what is no result: an agent of another version may send other lines as well. */
export function parseResult(line: string): PullResult | undefined {
  let parsed: unknown;
  try {
    parsed = JSON.parse(line);
  } catch {
    return undefined;
  }
  if (typeof parsed !== 'object' || parsed === null) return undefined;
  const { image, podUid, namespace, accelerated, reason, seconds, bytes, endedAtMs } = parsed as Partial<
    Record<keyof PullResult, unknown>
  >;
  const isWhole =
    typeof image === 'string' &&
    typeof accelerated === 'boolean' &&
    typeof reason === 'string' &&
    typeof seconds === 'number' &&
    typeof endedAtMs === 'number';
  if (!isWhole) return undefined;
  return {
    image,
    ...(typeof podUid === 'string' && { podUid }),
    ...(typeof namespace === 'string' && { namespace }),
    accelerated,
    reason,
    seconds,
    bytes: countsOf(bytes),
    endedAtMs,
  };
}

function countsOf(bytes: unknown): PullResult['bytes'] {
  const { origin, peer, cache } = (typeof bytes === 'object' && bytes !== null ? bytes : {}) as Record<
    string,
    unknown
  >;
  const count = (value: unknown): number => (typeof value === 'number' ? value : 0);
  return { origin: count(origin), peer: count(peer), cache: count(cache) };
}
