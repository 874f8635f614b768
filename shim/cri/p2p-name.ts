import { GrpcCode } from './grpc-wire.ts';
import { monotonicMs } from './monotonic-clock.ts';
import type { P2pImage } from './p2p-request.ts';
import { readFields, writeField } from './protobuf-reader.ts';
import { callUnary } from './unary-answer.ts';
import type { Upstream } from './upstream.ts';

const IMAGES = '/containerd.services.images.v1.Images';
const IMAGE_STATUS_PATH = '/runtime.v1.ImageService/ImageStatus';
/** The one that CRI uses. */
const NAMESPACE = ['containerd-namespace', 'k8s.io'];
/** Records are rows of a local database; on a disk that is busy with an unpack they take seconds. */
const CALL_TIMEOUT_MS = 10_000;
/** CRI hears of new records through events, 8–16 ms later as a rule. */
const POLL_FIRST_MS = 4;
const POLL_MAX_MS = 100;
/** A CRI that has not heard by then hears later; the pull itself is done. */
const VISIBLE_WAIT_MAX_MS = 2000;
/** What CRI's own pull puts on its records; without it CRI adds a record of its own. */
const MANAGED_LABEL = 'io.cri-containerd.image';
const ALREADY_EXISTS = 6;

/**
 * Gives an image that was just pulled under its origin's name its P2P names as well, or kubelet, which asks by the name in the
 * pod, would find nothing and pull again each time. Removing the image through CRI removes all its names.
 * @param imageId What PullImage answered. The names are waited for until CRI shows this image under them.
 * @returns Why it could not be done, or undefined. The pull is good all the same.
 */
export async function addP2pName(
  containerd: Upstream,
  image: P2pImage,
  imageId: string,
): Promise<string | undefined> {
  const found = await call(containerd, `${IMAGES}/Get`, text(1, recordName(image.origin)));
  const target = found.code === GrpcCode.Ok ? targetOf(found.message) : undefined;
  if (target === undefined) return `containerd has no record of "${image.origin}" (status ${found.code})`;
  for (const name of namesOf(image.p2p, target.digest)) {
    const code = await writeRecord(containerd, name, target.bytes);
    if (code !== GrpcCode.Ok) return `containerd refused the record "${name}" (status ${code})`;
  }
  await waitUntilShown(containerd, image.p2p, imageId);
  return undefined;
}

/** Creates the record or points it to the new target. */
async function writeRecord(containerd: Upstream, name: string, target: Buffer): Promise<number> {
  const label = writeField(2, Buffer.concat([text(1, MANAGED_LABEL), text(2, 'managed')]));
  const record = writeField(1, Buffer.concat([text(1, name), label, writeField(3, target)]));
  const { code } = await call(containerd, `${IMAGES}/Create`, record);
  if (code !== ALREADY_EXISTS) return code;
  const mask = writeField(2, Buffer.concat([text(1, 'target'), text(1, `labels.${MANAGED_LABEL}`)]));
  return (await call(containerd, `${IMAGES}/Update`, Buffer.concat([record, mask]))).code;
}

async function waitUntilShown(containerd: Upstream, name: string, imageId: string): Promise<void> {
  const request = writeField(1, text(1, name));
  const deadlineMs = monotonicMs() + VISIBLE_WAIT_MAX_MS;
  for (let waitMs = POLL_FIRST_MS; monotonicMs() < deadlineMs; waitMs = Math.min(waitMs * 2, POLL_MAX_MS)) {
    const { code, message } = await callUnary(containerd, IMAGE_STATUS_PATH, request, {
      timeoutMs: CALL_TIMEOUT_MS,
    });
    if (code !== GrpcCode.Ok || shownId(message) === imageId) return;
    await new Promise((resolve) => setTimeout(resolve, waitMs));
  }
}

/** The names that CRI's own pull would leave, but for the image ID, which is there already. */
function namesOf(image: string, digest: string): string[] {
  const name = recordName(image);
  const byDigest = `${splitImage(image).repository}@${digest}`;
  return name.includes('@') ? [name] : [byDigest, name];
}

/** As containerd normalises it: of a tag and a digest the digest counts, and neither means `latest`. */
function recordName(image: string): string {
  const { repository, tag, digest } = splitImage(image);
  return digest === undefined ? `${repository}:${tag ?? 'latest'}` : `${repository}@${digest}`;
}

function splitImage(image: string) {
  const [, repository = image, tag, digest] = /^([^@]*?)(?::([^:/@]+))?(?:@(.+))?$/.exec(image) ?? [];
  return { repository, tag, digest };
}

/** The descriptor in a `GetImageResponse`, as its bytes. */
function targetOf(response: Buffer): { readonly bytes: Buffer; readonly digest: string } | undefined {
  const bytes = lastField(lastField(response, 1), 3);
  const digest = lastField(bytes, 2)?.toString();
  return bytes === undefined || !digest ? undefined : { bytes, digest };
}

function shownId(response: Buffer): string | undefined {
  return lastField(lastField(response, 1), 1)?.toString();
}

function lastField(message: Buffer | undefined, wanted: number): Buffer | undefined {
  let found: Buffer | undefined;
  if (message === undefined) return undefined;
  readFields(message, (field, value) => {
    if (field === wanted) found = value;
  });
  return found;
}

function call(containerd: Upstream, path: string, request: Buffer) {
  return callUnary(containerd, path, request, { timeoutMs: CALL_TIMEOUT_MS, metadata: NAMESPACE });
}

function text(field: number, value: string): Buffer {
  return writeField(field, Buffer.from(value));
}
