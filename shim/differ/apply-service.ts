import { ErrorCode, isShoalError, ShoalError } from '../base/errors.ts';
import type { IncomingCall } from '../cri/forward-stream.ts';
import { frameMessage, GrpcCode, RESPONSE_HEADERS } from '../cri/grpc-wire.ts';
import { answerStatus, isAnswerable, respondRaw } from '../cri/respond.ts';
import { readUnaryBody } from '../cri/unary-body.ts';
import { readMessage } from '../cri/unary-message.ts';
import type { Upstream } from '../cri/upstream.ts';
import { APPLY_PATH, ApplyFallback, DIFF_PATH, refuseApply } from './apply-fallback.ts';
import { type AppliedLayer, type ApplyOptions, applyLayer } from './apply-layer.ts';
import { decodeApplyRequest, encodeApplyResponse } from './apply-request.ts';

export interface ApplyServiceOptions extends ApplyOptions {
  /** Applies what is not applied here. */
  readonly containerd: Upstream;
  /** Told of each layer: applied here, or why containerd applies it. */
  readonly onEnd: (end: ApplyEnd) => void;
  readonly nowMs: () => number;
}

export type ApplyEnd =
  | ({ readonly kind: 'applied'; readonly seconds: number } & AppliedLayer)
  | { readonly kind: 'handedOver'; readonly error: unknown };

/** A differ for containerd (`[proxy_plugins.NAME] type = "diff"`). */
export interface ApplyService {
  /** What to serve, by the call's path. */
  readonly handlers: ReadonlyMap<string, (call: IncomingCall) => void>;
  /** Aborts what is running and waits until nothing of it is left. */
  close(): Promise<void>;
}

/** Applies layers with the same pipeline as a pull; whatever fails here is applied by containerd itself. */
export function createApplyService(options: ApplyServiceOptions): ApplyService {
  const closing = new AbortController();
  const running = new Set<Promise<void>>();
  const fallback = new ApplyFallback(options.containerd);
  const serve = (call: IncomingCall): void => {
    const done = serveApply(call, options, fallback, closing.signal).finally(() => running.delete(done));
    running.add(done);
  };
  return {
    // Making layers from snapshots is left to containerd, which asks its next differ upon this.
    handlers: new Map([
      [APPLY_PATH, serve],
      [DIFF_PATH, refuseApply],
    ]),
    async close() {
      closing.abort(new ShoalError(ErrorCode.Cancelled, 'Cannot apply the layer: the agent is stopping'));
      await Promise.all(running);
    },
  };
}

async function serveApply(
  call: IncomingCall,
  options: ApplyServiceOptions,
  fallback: ApplyFallback,
  closing: AbortSignal,
): Promise<void> {
  const gone = new AbortController();
  call.stream.once('close', () => gone.abort());
  let body: Buffer;
  try {
    body = await readUnaryBody(call.stream);
  } catch (error) {
    const message = isShoalError(error) ? error.message : 'Cannot read "Apply": an internal failure';
    return answerStatus(call.stream, { code: GrpcCode.ResourceExhausted, message });
  }
  try {
    if (fallback.isReturning(call, body)) return refuseApply(call);
    const startMs = options.nowMs();
    const request = decodeApplyRequest(readMessage(call.headers, body));
    const applied = await applyLayer(request, options, AbortSignal.any([gone.signal, closing]));
    answerApplied(call, applied);
    options.onEnd({ kind: 'applied', ...applied, seconds: (options.nowMs() - startMs) / 1000 });
  } catch (error) {
    if (gone.signal.aborted || !isAnswerable(call.stream)) return;
    options.onEnd({ kind: 'handedOver', error });
    fallback.forward(call, call.headers, body);
  }
}

function answerApplied({ stream }: IncomingCall, { diffId, tarBytes }: AppliedLayer): void {
  if (!isAnswerable(stream)) return;
  respondRaw(stream, RESPONSE_HEADERS, { endStream: false });
  stream.once('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0', 'grpc-message': '' }));
  stream.end(frameMessage(encodeApplyResponse(diffId, tarBytes)));
}
