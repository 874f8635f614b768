export { CALLS_MAX, type CallOptions, type StreamOptions, TtrpcClient } from './client.ts';
export type { ClientStream } from './client-stream.ts';
export { Code, codeName, type StatusDetail, TtrpcError, type TtrpcErrorOptions } from './code.ts';
export {
  DATA_BYTES_MAX,
  type DecodedFrame,
  encodeFrame,
  Flag,
  type Frame,
  FrameDecoder,
  FrameType,
  HEADER_BYTES,
} from './frame.ts';
export type { Metadata } from './messages.ts';
export {
  ACTIVE_CALLS_MAX,
  type ServerConnection,
  type ServerStream,
  type Services,
  type StreamingMethod,
  serve,
  type UnaryHandler,
} from './server.ts';
export type { CallContext } from './server-call.ts';
