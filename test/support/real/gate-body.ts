import type { ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Fault } from './gate-faults.ts';
import type { Pacer } from './pacer.ts';

/** Small enough that a slow link looks smooth, large enough that a fast one is not slowed by the calls. */
const SLICE_BYTES = 16 << 10;
const UNPACED_SLICE_BYTES = 1 << 20;
/** Shorter waits are left out: timers have this grain, and the pacer catches up. */
const WAIT_MS_MIN = 1;

export interface BodyShape {
  /** Offset of the body's first byte within the content: not 0 in an answer to a Range. */
  readonly firstOffset: number;
  /** Asked before each slice, so that a limit can change within an answer. */
  readonly pacers: () => readonly Pacer[];
  readonly fault: Fault | undefined;
  /** What the registry announced, where it did. */
  readonly contentLength: number | undefined;
  readonly onSent: (bytes: number) => void;
}

/** Sends the body slice by slice under the pacers, spoilt as the fault says. */
export async function sendBody(
  source: AsyncIterable<Buffer> | Iterable<Buffer>,
  outgoing: ServerResponse,
  shape: BodyShape,
): Promise<void> {
  const endOfBytes = bytesAllowed(shape);
  let sent = 0;
  for await (const chunk of source) {
    for (const slice of slices(chunk, shape.pacers().length > 0)) {
      const part = slice.subarray(0, endOfBytes - sent);
      spoil(part, shape, sent);
      await sendPaced(part, outgoing, shape);
      sent += part.length;
      if (sent >= endOfBytes) return cutOff(outgoing, shape.fault);
    }
  }
  // After a Content-Length that was too large only a closed connection tells the client that no more will come.
  if (shape.fault?.kind === 'wrong-length' && shape.fault.byBytes > 0) outgoing.socket?.destroySoon();
  else outgoing.end();
}

async function sendPaced(part: Buffer, outgoing: ServerResponse, shape: BodyShape): Promise<void> {
  const waits = shape.pacers().map((pacer) => pacer.delayMs(part.length, performance.now()));
  const waitMs = Math.max(0, ...waits);
  if (waitMs >= WAIT_MS_MIN) await sleep(waitMs);
  if (outgoing.destroyed) throw new Error('the client has gone');
  shape.onSent(part.length);
  if (!outgoing.write(part)) await drained(outgoing);
}

function bytesAllowed({ fault, contentLength = 0 }: BodyShape): number {
  if (fault?.kind === 'truncate') return fault.afterBytes;
  if (fault?.kind === 'hang') return fault.afterBytes ?? 0;
  if (fault?.kind === 'wrong-length' && fault.byBytes < 0) return contentLength + fault.byBytes;
  return Number.POSITIVE_INFINITY;
}

/** A hanging answer keeps its connection until the client or the gate closes it. */
function cutOff(outgoing: ServerResponse, fault: Fault | undefined): void {
  if (fault?.kind === 'truncate') outgoing.socket?.destroySoon();
  else if (fault?.kind === 'wrong-length') outgoing.end();
}

function drained(outgoing: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      outgoing.off('drain', done).off('close', done);
      resolve();
    };
    outgoing.on('drain', done).on('close', done);
  });
}

/** Chunks come from a socket and belong to nobody else: changing them in place is safe. */
function spoil(part: Buffer, { fault, firstOffset }: BodyShape, sent: number): void {
  if (fault?.kind !== 'wrong-byte') return;
  const position = fault.at - firstOffset - sent;
  const byte = part[position];
  if (byte !== undefined) part[position] = byte ^ 0xff;
}

function* slices(chunk: Buffer, paced: boolean): Generator<Buffer> {
  const size = paced ? SLICE_BYTES : UNPACED_SLICE_BYTES;
  for (let start = 0; start < chunk.length; start += size) yield chunk.subarray(start, start + size);
}
