import { type ClientHttp2Stream, constants as http2 } from 'node:http2';
import type { IncomingCall } from './forward-stream.ts';
import { GrpcCode, unframeMessage } from './grpc-wire.ts';
import { addP2pName } from './p2p-name.ts';
import type { P2pImage } from './p2p-request.ts';
import { readFields } from './protobuf-reader.ts';
import { answerStatus, isAnswerable, respondRaw, trailerObject } from './respond.ts';
import { readUnaryAnswer, statusCodeOf, type UnaryAnswer } from './unary-answer.ts';
import type { Upstream } from './upstream.ts';

export interface P2pForward {
  readonly call: IncomingCall;
  readonly containerd: Upstream;
  readonly headers: readonly string[];
  /** The framed request, mapped to the origin. */
  readonly body: Buffer;
  readonly image: P2pImage;
  /** Told when the image is there but not under its P2P name. */
  readonly onUnnamed?: (reason: string, image: string) => void;
}

/** Has containerd pull an image from its origin, and answers when it exists under its P2P name as well. Never throws. */
export async function forwardP2pPull(forward: P2pForward): Promise<void> {
  const { call, containerd, headers, body } = forward;
  let stream: ClientHttp2Stream;
  try {
    stream = containerd.open(headers, false).stream;
  } catch {
    answerStatus(call.stream, { code: GrpcCode.Unavailable, message: containerd.describeLoss() });
    return;
  }
  const stop = (): void => stream.close(http2.NGHTTP2_CANCEL);
  call.stream.once('close', stop);
  const reading = readUnaryAnswer(stream);
  stream.end(body);
  const answer = await reading;
  call.stream.off('close', stop);
  if (!isAnswerable(call.stream)) return;
  if (answer === undefined) {
    answerStatus(call.stream, { code: GrpcCode.Unavailable, message: containerd.describeLoss() });
    return;
  }
  if (statusCodeOf(answer) === GrpcCode.Ok) await nameAnswered(forward, answer);
  passUnaryAnswer(call, answer);
}

/** Gives a call an answer that was read whole. */
export function passUnaryAnswer(call: IncomingCall, answer: UnaryAnswer): void {
  if (!isAnswerable(call.stream)) return;
  const endStream = answer.trailers.length === 0;
  respondRaw(call.stream, answer.headers, { endStream });
  if (endStream) return;
  call.stream.once('wantTrailers', () => call.stream.sendTrailers(trailerObject(answer.trailers)));
  call.stream.end(answer.body);
}

async function nameAnswered(
  { containerd, image, onUnnamed }: P2pForward,
  answer: UnaryAnswer,
): Promise<void> {
  const reason = await addP2pName(containerd, image, imageIdOf(answer)).catch(String);
  if (reason !== undefined) onUnnamed?.(reason, image.p2p);
}

/** `PullImageResponse.image_ref`; empty for an answer that cannot be read, which is passed on as it is. */
function imageIdOf({ body }: UnaryAnswer): string {
  let id = '';
  try {
    readFields(unframeMessage(body).message, (field, value) => {
      if (field === 1) id = value.toString();
    });
  } catch {
    return '';
  }
  return id;
}
