import { ErrorCode, isShoalError, ShoalError } from '../base/errors.ts';
import type { P2pHostRule } from '../base/p2p-address.ts';
import { forwardP2pPull } from './forward-p2p-pull.ts';
import { forwardBuffered, type IncomingCall } from './forward-stream.ts';
import {
  frameMessage,
  type GrpcStatus,
  headerValue,
  parseTimeout,
  RESPONSE_HEADERS,
  withTimeout,
} from './grpc-wire.ts';
import { monotonicMs } from './monotonic-clock.ts';
import { addP2pName } from './p2p-name.ts';
import { mapPullRequest, type P2pImage } from './p2p-request.ts';
import type { PullHandler } from './pull-handler.ts';
import { type CriPullRequest, decodePullImageRequest, encodePullImageResponse } from './pull-request.ts';
import { DEADLINE_STATUS, pullStatus } from './pull-status.ts';
import { answerStatus, isAnswerable, respondRaw } from './respond.ts';
import { readUnaryBody } from './unary-body.ts';
import { readMessage } from './unary-message.ts';
import type { Upstream } from './upstream.ts';

/** `setTimeout` of Node fires at once above this, ms: 24 days. */
const TIMER_MS_MAX = 2 ** 31 - 1;

export interface PullServiceOptions {
  readonly containerd: Upstream;
  /** Failures are told in its words. Default: those of 2.1. */
  readonly containerdVersion?: () => string;
  readonly handler: PullHandler;
  /** Told of every hand-over, also those decided here: for logs and counters. */
  readonly onHandOver?: (reason: string, image: string) => void;
  /** Which hosts have P2P addresses; images that are asked for by one are pulled from their origin. Default none. */
  readonly p2pRules?: readonly P2pHostRule[];
  /** Told of an image that was pulled but does not exist under the P2P address by which it was asked for. */
  readonly onUnnamed?: (reason: string, image: string) => void;
}

/** Answers PullImage calls through a handler, or has containerd answer them. */
export interface PullService {
  readonly onPullImage: (call: IncomingCall) => void;
  /** Aborts the running pulls and waits for the handler to be done with them. */
  close(): Promise<void>;
}

export function createPullService(options: PullServiceOptions): PullService {
  const closing = new AbortController();
  const running = new Set<Promise<void>>();
  return {
    onPullImage(call) {
      const done = servePull(call, options, closing.signal).finally(() => running.delete(done));
      running.add(done);
    },
    async close() {
      closing.abort(
        new ShoalError(ErrorCode.StoreUnavailable, 'Cannot go on with the pull: the agent is stopping'),
      );
      await Promise.all(running);
    },
  };
}

async function servePull(
  call: IncomingCall,
  options: PullServiceOptions,
  closing: AbortSignal,
): Promise<void> {
  const limits = limitCall(call, closing);
  let body: Buffer | undefined;
  let request: CriPullRequest | undefined;
  let p2p: P2pImage | undefined;
  try {
    body = await readUnaryBody(call.stream);
    const message = readMessage(call.headers, body);
    const mapped = mapPullRequest(message, options.p2pRules ?? []);
    p2p = mapped?.image;
    if (mapped !== undefined) body = frameMessage(mapped.message);
    request = { ...decodePullImageRequest(mapped?.message ?? message), ...(p2p && { p2pImage: p2p.p2p }) };
    const outcome = await options.handler.pull(request, limits.signal);
    if (outcome.kind === 'pulled') {
      if (p2p !== undefined) await addName(options, p2p, outcome.imageRef);
      answerPulled(call, outcome.imageRef);
    } else {
      if (outcome.whenAnswered !== undefined) onceClosed(call, outcome.whenAnswered);
      await handOver({ call, body, options, limits, reason: outcome.reason, image: request.image, p2p });
    }
  } catch (error) {
    const status = judge(error, request, limits, options.containerdVersion?.() ?? '');
    if (status !== undefined) answerStatus(call.stream, status);
    else if (body !== undefined) {
      const reason = isShoalError(error) ? error.code : 'internal';
      await handOver({ call, body, options, limits, reason, image: request?.image ?? '', p2p });
    }
  } finally {
    limits.release();
  }
}

/** What ends a pull early, apart from its own failure. */
interface CallLimits {
  readonly signal: AbortSignal;
  readonly expired: () => boolean;
  /** What is left of the caller's deadline, ms; undefined when it set none. */
  readonly remainingMs: () => number | undefined;
  release(): void;
}

function limitCall(call: IncomingCall, closing: AbortSignal): CallLimits {
  const startMs = monotonicMs();
  const timeoutMs = parseTimeout(headerValue(call.headers, 'grpc-timeout'));
  const stop = new AbortController();
  let expired = false;
  const gone = () => stop.abort(new ShoalError(ErrorCode.Cancelled, 'Cannot pull: the caller gave up'));
  const expire = () => {
    expired = true;
    stop.abort(new ShoalError(ErrorCode.Cancelled, 'Cannot pull: the deadline of the call has passed'));
  };
  const close = () => stop.abort(closing.reason);
  const timer = timeoutMs === undefined ? undefined : setTimeout(expire, Math.min(timeoutMs, TIMER_MS_MAX));
  call.stream.once('close', gone);
  if (closing.aborted) close();
  else closing.addEventListener('abort', close, { once: true });
  return {
    signal: stop.signal,
    expired: () => expired,
    remainingMs: () => (timeoutMs === undefined ? undefined : timeoutMs - (monotonicMs() - startMs)),
    release() {
      clearTimeout(timer);
      call.stream.off('close', gone);
      closing.removeEventListener('abort', close);
    },
  };
}

/** The status that the caller gets for a failure; undefined when containerd shall have the call instead. */
function judge(
  error: unknown,
  request: CriPullRequest | undefined,
  limits: CallLimits,
  containerdVersion: string,
): GrpcStatus | undefined {
  if (limits.expired()) return DEADLINE_STATUS;
  const stopped = limits.signal.reason;
  const image = request?.p2pImage ?? request?.image ?? '';
  if (stopped instanceof ShoalError) return pullStatus(stopped, image, containerdVersion);
  if (!isShoalError(error)) return undefined;
  if (request === undefined && error.code === ErrorCode.Unsupported) return undefined;
  return pullStatus(error, image, containerdVersion);
}

/** Without its P2P name the image is pulled all the same: kubelet starts containers by the ID that it is answered. */
async function addName(options: PullServiceOptions, image: P2pImage, imageId: string): Promise<void> {
  const reason = await addP2pName(options.containerd, image, imageId).catch(String);
  if (reason !== undefined) options.onUnnamed?.(reason, image.p2p);
}

function answerPulled(call: IncomingCall, imageRef: string): void {
  const { stream } = call;
  if (!isAnswerable(stream)) return;
  respondRaw(stream, RESPONSE_HEADERS, { endStream: false });
  stream.once('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0', 'grpc-message': '' }));
  stream.end(frameMessage(encodePullImageResponse(imageRef)));
}

function onceClosed(call: IncomingCall, then: () => void): void {
  if (call.stream.closed) then();
  else call.stream.once('close', then);
}

interface HandOver {
  readonly call: IncomingCall;
  readonly body: Buffer;
  readonly options: PullServiceOptions;
  readonly limits: CallLimits;
  readonly reason: string;
  readonly image: string;
  readonly p2p: P2pImage | undefined;
}

/** Has containerd answer, with the bytes as they came (P2P addresses apart) and what is left of the deadline. */
async function handOver({ call, body, options, limits, reason, image, p2p }: HandOver): Promise<void> {
  const remainingMs = limits.remainingMs();
  if (remainingMs !== undefined && remainingMs <= 0) {
    answerStatus(call.stream, DEADLINE_STATUS);
    return;
  }
  if (!isAnswerable(call.stream)) return;
  options.onHandOver?.(reason, image);
  const headers = remainingMs === undefined ? call.headers : withTimeout(call.headers, remainingMs);
  const { containerd, onUnnamed } = options;
  if (p2p === undefined) forwardBuffered(call, containerd, headers, body);
  else await forwardP2pPull({ call, containerd, headers, body, image: p2p, ...(onUnnamed && { onUnnamed }) });
}
