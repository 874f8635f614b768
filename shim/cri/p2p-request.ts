import { originHostOf, originImageOf, type P2pHostRule } from '../base/p2p-address.ts';
import { hostOfServerAddress } from '../base/server-address.ts';
import { readFields, rewriteFields } from './protobuf-reader.ts';

/** One image under both its names, as the caller wrote it: without a tag where it had none. */
export interface P2pImage {
  readonly p2p: string;
  readonly origin: string;
}

/** A `PullImageRequest` without P2P addresses. */
export interface OriginRequest {
  readonly message: Buffer;
  /** Undefined when only the credentials named a P2P host. */
  readonly image: P2pImage | undefined;
}

/** Fields of `runtime.v1.PullImageRequest` and what is in them. */
const IMAGE_SPEC = 1;
const AUTH = 2;
const IMAGE = 1;
const SERVER_ADDRESS = 4;

/**
 * Maps the image and the server address of the credentials back to the origin; every other byte stays. Undefined when the request
 * has no P2P address, so that what goes on are the caller's own bytes.
 * @throws ShoalError `Unsupported` for bytes that are no protobuf message.
 */
export function mapPullRequest(message: Buffer, rules: readonly P2pHostRule[]): OriginRequest | undefined {
  const found = { image: '', serverAddress: '' };
  readFields(message, (field, part) => {
    if (field !== IMAGE_SPEC && field !== AUTH) return;
    readFields(part, (inner, value) => {
      if (field === IMAGE_SPEC && inner === IMAGE) found.image = value.toString();
      if (field === AUTH && inner === SERVER_ADDRESS) found.serverAddress = value.toString();
    });
  });
  const image = originImageOf(found.image, rules);
  const serverAddress = originServerAddress(found.serverAddress, image, rules);
  if (image === undefined && serverAddress === undefined) return undefined;
  const rewritten = rewriteFields(message, (field, part) => {
    if (field === IMAGE_SPEC) return replaceText(part, IMAGE, image);
    return field === AUTH ? replaceText(part, SERVER_ADDRESS, serverAddress) : undefined;
  });
  return { message: rewritten, image: image === undefined ? undefined : { p2p: found.image, origin: image } };
}

/**
 * With a scheme, for containerd takes the host from a URL and sends nothing where it finds none. An address of the image's own
 * host gets one as well: beside a P2P address both forms mean the same.
 */
function originServerAddress(
  address: string,
  originImage: string | undefined,
  rules: readonly P2pHostRule[],
): string | undefined {
  const host = hostOfServerAddress(address);
  if (host === undefined) return undefined;
  const origin = originHostOf(host, rules);
  if (origin !== undefined) return `https://${origin}`;
  const isOwn = originImage?.toLowerCase().startsWith(`${host}/`);
  return isOwn ? `https://${host}` : undefined;
}

function replaceText(part: Buffer, field: number, text: string | undefined): Buffer | undefined {
  if (text === undefined) return undefined;
  return rewriteFields(part, (inner) => (inner === field ? Buffer.from(text) : undefined));
}
