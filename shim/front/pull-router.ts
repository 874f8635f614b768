import { constants as http2 } from 'node:http2';
import { isShoalError } from '../base/errors.ts';
import { forwardBuffered, type IncomingCall } from '../cri/forward-stream.ts';
import { GrpcCode, headerValue, MESSAGE_BYTES_MAX, parseTimeout, withTimeout } from '../cri/grpc-wire.ts';
import { monotonicMs } from '../cri/monotonic-clock.ts';
import { answerStatus, isAnswerable, respondRaw, trailerObject } from '../cri/respond.ts';
import { readUnaryBody } from '../cri/unary-body.ts';
import type { Upstream } from '../cri/upstream.ts';
import type { AgentLink } from './agent-link.ts';

/** One whole answer of the agent. */
interface Answer {
  readonly headers: readonly string[];
  readonly body: Buffer;
  /** Empty when the header block carries the status. */
  readonly trailers: readonly string[];
}

/** Statuses by which an agent says that it cannot serve the call at all: it stops, it failed, it is of another age. */
const NO_ANSWER: ReadonlySet<string> = new Set(
  [GrpcCode.Unavailable, GrpcCode.Unimplemented, GrpcCode.Internal].map(String),
);

/**
 * Serves one PullImage: by the agent while it is healthy, else by containerd. The request is kept until the agent's
 * whole answer is there, so a pull whose agent dies or freezes is sent to containerd and the caller sees no failure.
 */
export async function routePull(call: IncomingCall, agent: AgentLink, containerd: Upstream): Promise<void> {
  const startMs = monotonicMs();
  try {
    const body = await readUnaryBody(call.stream);
    const answer = await askAgent(call, agent, body);
    if (!isAnswerable(call.stream)) return;
    if (answer === undefined) forwardBuffered(call, containerd, remainingHeaders(call, startMs), body);
    else passAnswer(call, answer);
  } catch (error) {
    const message = isShoalError(error) ? error.message : 'Cannot route "PullImage": an internal failure';
    answerStatus(call.stream, { code: GrpcCode.ResourceExhausted, message });
  }
}

/** The agent's answer; undefined when it has none, for whatever reason, or the caller is gone. */
function askAgent(call: IncomingCall, agent: AgentLink, body: Buffer): Promise<Answer | undefined> {
  const stream = agent.open(call.headers);
  if (stream === undefined) return Promise.resolve(undefined);
  return new Promise((resolve) => {
    let headers: readonly string[] = [];
    let trailers: readonly string[] = [];
    let sizeBytes = 0;
    let ended = false;
    const chunks: Buffer[] = [];
    const stop = () => stream.close(http2.NGHTTP2_CANCEL);
    call.stream.once('close', stop);
    stream.on('response', (_headers, _flags, rawHeaders) => {
      headers = rawHeaders;
    });
    stream.on('trailers', (_headers, _flags, ...rest: unknown[]) => {
      trailers = rest[0] as readonly string[];
    });
    stream.on('data', (chunk: Buffer) => {
      sizeBytes += chunk.length;
      if (sizeBytes > MESSAGE_BYTES_MAX) stop();
      else chunks.push(chunk);
    });
    stream.on('end', () => {
      ended = true;
    });
    // The outcome is judged in `close`; without a listener a reset would be an uncaught error.
    stream.on('error', () => undefined);
    stream.on('close', () => {
      call.stream.off('close', stop);
      const answer = { headers, body: Buffer.concat(chunks), trailers };
      resolve(ended && stream.rstCode === http2.NGHTTP2_NO_ERROR && isAnswer(answer) ? answer : undefined);
    });
    stream.end(body);
  });
}

function isAnswer(answer: Answer): boolean {
  const status = headerValue(answer.trailers, 'grpc-status') ?? headerValue(answer.headers, 'grpc-status');
  return headerValue(answer.headers, ':status') === '200' && status !== undefined && !NO_ANSWER.has(status);
}

function passAnswer(call: IncomingCall, answer: Answer): void {
  const endStream = answer.trailers.length === 0;
  respondRaw(call.stream, answer.headers, { endStream });
  if (endStream) return;
  call.stream.once('wantTrailers', () => call.stream.sendTrailers(trailerObject(answer.trailers)));
  call.stream.end(answer.body);
}

/** The call's header block with what is left of its deadline. */
function remainingHeaders(call: IncomingCall, startMs: number): readonly string[] {
  const timeoutMs = parseTimeout(headerValue(call.headers, 'grpc-timeout'));
  if (timeoutMs === undefined) return call.headers;
  return withTimeout(call.headers, timeoutMs - (monotonicMs() - startMs));
}
