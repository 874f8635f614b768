import type { Credentials } from '../registry/origin.ts';
import { readFields, readMapEntry, writeField } from './protobuf-reader.ts';

/** What is read of a `runtime.v1.PullImageRequest`. The raw bytes are what a hand-over sends. */
export interface CriPullRequest {
  /** The image reference as the caller wrote it; mapped to its origin where that was a P2P address. */
  readonly image: string;
  /** What the caller wrote, where that was a P2P address: the image is to exist under this name as well. */
  readonly p2pImage?: string;
  /** `ImageSpec.annotations`: kubelet sends all annotations of the pod, `crictl pull --annotation` what was given. */
  readonly imageAnnotations: ReadonlyMap<string, string>;
  /** `ImageSpec.runtime_handler`, empty as undefined. */
  readonly runtimeHandler: string | undefined;
  /** Absent when the message has no `auth`, or one without any secret in it. */
  readonly credentials: Credentials | undefined;
  /** Absent when the message has no `sandbox_config`: then no pod is known. */
  readonly pod: CriPod | undefined;
}

export interface CriPod {
  readonly name: string;
  readonly uid: string;
  readonly namespace: string;
  readonly labels: ReadonlyMap<string, string>;
  readonly annotations: ReadonlyMap<string, string>;
}

/**
 * Reads a `PullImageRequest`; unknown fields are skipped.
 * @throws ShoalError `Unsupported` for bytes that are not one.
 */
export function decodePullImageRequest(message: Buffer): CriPullRequest {
  const request = { image: '', imageAnnotations: new Map<string, string>(), runtimeHandler: '' };
  const auth: Mutable<Credentials> = {};
  let pod: CriPod | undefined;
  readFields(message, (field, value) => {
    if (field === 1) readImageSpec(value, request);
    if (field === 2) readAuth(value, auth);
    if (field === 3) pod = readPod(value);
  });
  return {
    image: request.image,
    imageAnnotations: request.imageAnnotations,
    runtimeHandler: request.runtimeHandler === '' ? undefined : request.runtimeHandler,
    credentials: hasSecret(auth) ? auth : undefined,
    pod,
  };
}

/** A `PullImageResponse`. */
export function encodePullImageResponse(imageRef: string): Buffer {
  return writeField(1, Buffer.from(imageRef));
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

interface ImageSpecFields {
  image: string;
  readonly imageAnnotations: Map<string, string>;
  runtimeHandler: string;
}

function readImageSpec(spec: Buffer, into: ImageSpecFields): void {
  readFields(spec, (field, value) => {
    if (field === 1) into.image = value.toString();
    if (field === 2) into.imageAnnotations.set(...readMapEntry(value));
    if (field === 19) into.runtimeHandler = value.toString();
  });
}

const AUTH_FIELDS: Readonly<Record<number, keyof Credentials>> = {
  1: 'username',
  2: 'password',
  3: 'auth',
  4: 'serverAddress',
  5: 'identityToken',
  6: 'registryToken',
};

function readAuth(auth: Buffer, into: Mutable<Credentials>): void {
  readFields(auth, (field, value) => {
    const name = AUTH_FIELDS[field];
    if (name !== undefined && value.length > 0) into[name] = value.toString();
  });
}

function hasSecret(auth: Credentials): boolean {
  return [auth.username, auth.password, auth.auth, auth.identityToken, auth.registryToken].some(
    (value) => value !== undefined,
  );
}

function readPod(config: Buffer): CriPod {
  const labels = new Map<string, string>();
  const annotations = new Map<string, string>();
  const metadata: Record<number, string> = {};
  readFields(config, (field, value) => {
    if (field === 1) {
      readFields(value, (part, text) => {
        metadata[part] = text.toString();
      });
    }
    if (field === 6) labels.set(...readMapEntry(value));
    if (field === 7) annotations.set(...readMapEntry(value));
  });
  return {
    name: metadata[1] ?? '',
    uid: metadata[2] ?? '',
    namespace: metadata[3] ?? '',
    labels,
    annotations,
  };
}
