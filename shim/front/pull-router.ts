import { constants as http2 } from 'node:http2';
import { isShoalError } from '../base/errors.ts';
import { passUnaryAnswer } from '../cri/forward-p2p-pull.ts';
import type { IncomingCall } from '../cri/forward-stream.ts';
import { GrpcCode, headerValue, parseTimeout, withTimeout } from '../cri/grpc-wire.ts';
import { monotonicMs } from '../cri/monotonic-clock.ts';
import { answerStatus, isAnswerable } from '../cri/respond.ts';
import { readUnaryAnswer, statusCodeOf, type UnaryAnswer } from '../cri/unary-answer.ts';
import { readUnaryBody } from '../cri/unary-body.ts';
import type { ApplyFallback } from '../differ/apply-fallback.ts';
import type { AgentLink } from './agent-link.ts';
import { forwardPull, type PullFallback } from './forward-pull.ts';

/** Statuses by which an agent says that it cannot serve the call at all: it stops, it failed, it is of another age. */
const NO_PULL: ReadonlySet<number> = new Set([
  GrpcCode.Unavailable,
  GrpcCode.Unimplemented,
  GrpcCode.Internal,
]);
/** Of a layer to apply, Unimplemented is an answer: the agent had containerd apply it, and this is that call come round. */
const NO_APPLY: ReadonlySet<number> = new Set([GrpcCode.Unavailable, GrpcCode.Internal]);

/** What is done with a call that the agent has no answer to. */
interface Elsewhere {
  readonly noAnswer: ReadonlySet<number>;
  readonly forward: (headers: readonly string[], body: Buffer) => void;
}

/**
 * Serves one PullImage: by the agent while it is healthy, else by containerd. The request is kept until the agent's
 * whole answer is there, so a pull whose agent dies or freezes is sent to containerd and the caller sees no failure.
 */
export async function routePull(call: IncomingCall, agent: AgentLink, fallback: PullFallback): Promise<void> {
  await routeToAgent(call, agent, {
    noAnswer: NO_PULL,
    forward: (headers, body) => forwardPull(fallback, call, headers, body),
  });
}

/** The same for a layer that containerd wants applied: by the agent, else by containerd's own differ. */
export async function routeApply(
  call: IncomingCall,
  agent: AgentLink,
  fallback: ApplyFallback,
): Promise<void> {
  await routeToAgent(call, agent, {
    noAnswer: NO_APPLY,
    forward: (headers, body) => fallback.forward(call, headers, body),
  });
}

async function routeToAgent(call: IncomingCall, agent: AgentLink, elsewhere: Elsewhere): Promise<void> {
  const startMs = monotonicMs();
  try {
    const body = await readUnaryBody(call.stream);
    const answer = await askAgent(call, agent, body);
    if (!isAnswerable(call.stream)) return;
    if (answer === undefined || elsewhere.noAnswer.has(statusCodeOf(answer) ?? GrpcCode.Internal))
      elsewhere.forward(remainingHeaders(call, startMs), body);
    else passUnaryAnswer(call, answer);
  } catch (error) {
    const message = isShoalError(error) ? error.message : 'Cannot route the call: an internal failure';
    answerStatus(call.stream, { code: GrpcCode.ResourceExhausted, message });
  }
}

/** The agent's answer; undefined when it has none, for whatever reason, or the caller is gone. */
async function askAgent(
  call: IncomingCall,
  agent: AgentLink,
  body: Buffer,
): Promise<UnaryAnswer | undefined> {
  const stream = agent.open(call.headers);
  if (stream === undefined) return undefined;
  const stop = () => stream.close(http2.NGHTTP2_CANCEL);
  call.stream.once('close', stop);
  const reading = readUnaryAnswer(stream);
  stream.end(body);
  const answer = await reading;
  call.stream.off('close', stop);
  return answer;
}

/** The call's header block with what is left of its deadline. */
function remainingHeaders(call: IncomingCall, startMs: number): readonly string[] {
  const timeoutMs = parseTimeout(headerValue(call.headers, 'grpc-timeout'));
  if (timeoutMs === undefined) return call.headers;
  return withTimeout(call.headers, timeoutMs - (monotonicMs() - startMs));
}
