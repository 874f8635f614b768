import { ErrorCode, isShoalError, ShoalError } from '../base/errors.ts';
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
  readonly handler: PullHandler;
  /** Told of every hand-over, also those decided here: for logs and counters. */
  readonly onHandOver?: (reason: string, image: string) => void;
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
  try {
    body = await readUnaryBody(call.stream);
    request = decodePullImageRequest(readMessage(call.headers, body));
    const outcome = await options.handler.pull(request, limits.signal);
    if (outcome.kind === 'pulled') answerPulled(call, outcome.imageRef);
    else {
      if (outcome.whenAnswered !== undefined) onceClosed(call, outcome.whenAnswered);
      handOver({ call, body, options, limits, reason: outcome.reason, image: request.image });
    }
  } catch (error) {
    const status = judge(error, request, limits);
    if (status !== undefined) answerStatus(call.stream, status);
    else if (body !== undefined) {
      const reason = isShoalError(error) ? error.code : 'internal';
      handOver({ call, body, options, limits, reason, image: request?.image ?? '' });
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
): GrpcStatus | undefined {
  if (limits.expired()) return DEADLINE_STATUS;
  const stopped = limits.signal.reason;
  if (stopped instanceof ShoalError) return pullStatus(stopped, request?.image ?? '');
  if (!isShoalError(error)) return undefined;
  if (request === undefined && error.code === ErrorCode.Unsupported) return undefined;
  return pullStatus(error, request?.image ?? '');
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
}

/** Has containerd answer, with the bytes as they came and what is left of the deadline. */
function handOver({ call, body, options, limits, reason, image }: HandOver): void {
  const remainingMs = limits.remainingMs();
  if (remainingMs !== undefined && remainingMs <= 0) {
    answerStatus(call.stream, DEADLINE_STATUS);
    return;
  }
  if (!isAnswerable(call.stream)) return;
  options.onHandOver?.(reason, image);
  const headers = remainingMs === undefined ? call.headers : withTimeout(call.headers, remainingMs);
  forwardBuffered(call, options.containerd, headers, body);
}
