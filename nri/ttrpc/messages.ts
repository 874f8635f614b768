import { Code, type StatusDetail, TtrpcError } from './code.ts';
import { bytesField, mapField, readFields, readMapEntry, stringField, varintField } from './protobuf.ts';

/** Values by key; keys are lower-case, and each may have several values. */
export type Metadata = ReadonlyMap<string, readonly string[]>;

/** `ttrpc.Request`. */
export interface RequestMessage {
  readonly service: string;
  readonly method: string;
  readonly payload: Buffer;
  /** Time that the caller still has, ms; undefined: no limit. */
  readonly timeoutMs: number | undefined;
  readonly metadata: Metadata;
}

const NANOS_PER_MS = 1_000_000;

export function encodeRequest({ service, method, payload, timeoutMs, metadata }: RequestMessage): Buffer {
  const nanos = timeoutMs === undefined ? 0 : Math.max(1, Math.round(timeoutMs * NANOS_PER_MS));
  const pairs = [...metadata].flatMap(([key, values]) => values.map((value) => [key, value] as const));
  return Buffer.concat([
    stringField(1, service),
    stringField(2, method),
    payload.length === 0 ? payload : bytesField(3, payload),
    varintField(4, nanos),
    mapField(5, pairs),
  ]);
}

/** @throws TtrpcError `InvalidArgument` */
export function decodeRequest(bytes: Buffer): RequestMessage {
  let [service, method, nanos] = ['', '', 0];
  let payload: Buffer = Buffer.alloc(0);
  const metadata = new Map<string, string[]>();
  readFields(bytes, ({ number, value, bytes: content }) => {
    if (number === 1) service = content.toString();
    if (number === 2) method = content.toString();
    if (number === 3) payload = content;
    if (number === 4) nanos = value;
    if (number === 5) addPair(metadata, readMapEntry(content));
  });
  return { service, method, payload, timeoutMs: timeoutOf(nanos), metadata };
}

/** `ttrpc.Response`: a payload, or the error that was answered. */
export type ResponseMessage = { readonly payload: Buffer } | { readonly error: TtrpcError };

export function encodeResponse(response: ResponseMessage): Buffer {
  if ('payload' in response)
    return response.payload.length === 0 ? response.payload : bytesField(2, response.payload);
  const { code, message, details } = response.error;
  const status = Buffer.concat([
    varintField(1, code),
    stringField(2, message),
    ...details.map(({ typeUrl, value }) =>
      bytesField(3, Buffer.concat([stringField(1, typeUrl), bytesField(2, value)])),
    ),
  ]);
  return bytesField(1, status);
}

/** @throws TtrpcError `Internal` when the bytes are no response. */
export function decodeResponse(bytes: Buffer): ResponseMessage {
  try {
    let error: TtrpcError | undefined;
    let payload: Buffer = Buffer.alloc(0);
    readFields(bytes, ({ number, bytes: content }) => {
      if (number === 1) error = decodeStatus(content);
      if (number === 2) payload = content;
    });
    return error === undefined ? { payload } : { error };
  } catch (cause) {
    throw new TtrpcError(Code.Internal, 'Cannot read the response: malformed protobuf', { cause });
  }
}

function decodeStatus(bytes: Buffer): TtrpcError | undefined {
  let [code, message] = [0, ''];
  const details: StatusDetail[] = [];
  readFields(bytes, ({ number, value, bytes: content }) => {
    if (number === 1) code = value;
    if (number === 2) message = content.toString();
    if (number === 3) details.push(decodeDetail(content));
  });
  return code === Code.Ok ? undefined : new TtrpcError(code, message, { details });
}

function decodeDetail(bytes: Buffer): StatusDetail {
  let typeUrl = '';
  let value: Buffer = Buffer.alloc(0);
  readFields(bytes, ({ number, bytes: content }) => {
    if (number === 1) typeUrl = content.toString();
    if (number === 2) value = content;
  });
  return { typeUrl, value };
}

function addPair(metadata: Map<string, string[]>, [key, value]: readonly [string, string]): void {
  const name = key.toLowerCase();
  const values = metadata.get(name);
  if (values === undefined) metadata.set(name, [value]);
  else values.push(value);
}

/** What does not fit an int64 is negative there: the time is over. */
function timeoutOf(nanos: number): number | undefined {
  if (nanos === 0) return undefined;
  return nanos >= 2 ** 63 ? 0 : nanos / NANOS_PER_MS;
}
