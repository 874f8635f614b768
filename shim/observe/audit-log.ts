import type { LogSink } from './log-sink.ts';

/** What the agent did, by the names that the audit log has for it. */
export const AuditOperation = {
  /** The local HTTP service answered a consumer. */
  HttpPread: 'http:pread',
  /** A peer or client asked how long something is. */
  RpcStat: 'rpc:stat',
  /** The agent answered a peer or client. */
  RpcPread: 'rpc:pread',
  /** Bytes came from upstream. */
  Download: 'download',
  /** Bytes went into the disk cache. */
  FileWrite: 'filewrite',
  /** Bytes came out of the disk cache. */
  FileRead: 'fileread',
} as const;
export type AuditOperation = (typeof AuditOperation)[keyof typeof AuditOperation];

export interface AuditEntry {
  readonly operation: AuditOperation;
  /** What was asked for, as a URL; its query, fragment and userinfo are left out. */
  readonly url: string;
  readonly offsetBytes?: number;
  /** Bytes of this one request; negative when it failed. */
  readonly sizeBytes: number;
  /** From request to answer, µs. */
  readonly latencyUs: number;
}

export interface AuditLog {
  write(entry: AuditEntry): void;
}

/** Longer URLs are cut: a line must fit a pipe's atomic write (4096 bytes, `man 7 pipe`). */
const urlLengthMax = 3500;

/** Writes one line an entry into `sink`; `thread` tells one writer's lines from another's. */
export function createAuditLog(sink: Pick<LogSink, 'write'>, thread: number, now: () => Date): AuditLog {
  return { write: (entry) => sink.write(formatAuditLine(entry, thread, now())) };
}

/**
 * `2022/08/30 15:44:52|AUDIT|th=00007FBA247C5280|download[pathname=/https://host/path][offset=0][size=1][latency=2]`,
 * in local time: the format of the product that Shoal replaces, to the letter.
 */
export function formatAuditLine(entry: AuditEntry, thread: number, at: Date): string {
  const fields: (readonly [string, string | number])[] = [['pathname', pathname(entry.url)]];
  if (entry.offsetBytes !== undefined) fields.push(['offset', entry.offsetBytes]);
  fields.push(['size', entry.sizeBytes], ['latency', Math.round(entry.latencyUs)]);
  const id = thread.toString(16).toUpperCase().padStart(16, '0');
  const details = fields.map(([name, value]) => `[${name}=${value}]`).join('');
  return `${timestamp(at)}|AUDIT|th=${id}|${entry.operation}${details}\n`;
}

function timestamp(at: Date): string {
  const two = (value: number): string => String(value).padStart(2, '0');
  const day = [at.getFullYear(), two(at.getMonth() + 1), two(at.getDate())].join('/');
  return `${day} ${[at.getHours(), at.getMinutes(), at.getSeconds()].map(two).join(':')}`;
}

/** One line stays one line, and a field ends where it seems to: all but plain characters are escaped. */
function pathname(url: string): string {
  const plain = url.replace(/[?#].*$/s, '').replace(/^([a-z]+:\/\/)[^/]*@/i, '$1');
  const wellFormed = plain.slice(0, urlLengthMax).toWellFormed();
  const safe = wellFormed.replaceAll(/[^!-~]|[[\]|]/gu, encodeURIComponent).slice(0, urlLengthMax);
  return safe.startsWith('/') ? safe : `/${safe}`;
}
