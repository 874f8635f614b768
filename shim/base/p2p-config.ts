import { ErrorCode, ShoalError } from './errors.ts';

/**
 * The value of a pod's annotation `<keyPrefix>/p2p-config`: what the webhook tells the node about the pod. A hint, not a
 * permission: images are warmed and secrets used only as far as the node may do so anyway.
 */
export interface P2pConfig {
  readonly version: 1;
  /** Image references as the pod has them, in the order in which kubelet pulls them. */
  readonly images: readonly string[];
  /** Names of the pull secrets for peer-to-peer addresses, in the pod's own namespace. */
  readonly secrets: readonly string[];
  readonly limits: P2pConfigLimits;
}

export interface P2pConfigLimits {
  /** Images of this pod that are warmed at a time, 1–16. */
  readonly warmAtOnce?: number;
  /** Throughput of warming this pod, 1–100000 MB/s of 10^6 bytes. */
  readonly throttleLimitMB?: number;
}

/** A quarter of what Kubernetes allows for all annotations of an object. */
export const P2P_CONFIG_BYTES_MAX = 64 << 10;
/** More containers than kubelet runs in one pod by default (110 pods share a node). */
export const P2P_CONFIG_IMAGES_MAX = 128;
export const P2P_CONFIG_SECRETS_MAX = 64;
/** Host and repository are at most 255 characters, a tag 128, a digest 71. */
export const IMAGE_REFERENCE_LENGTH_MAX = 512;

/** A DNS subdomain (RFC 1123), which is what Kubernetes takes as the name of a secret. */
const secretName = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const SECRET_NAME_LENGTH_MAX = 253;
/** No blanks, no control characters; whether it is a reference is for whoever pulls it to say. */
const printable = /^[\x21-\x7e]+$/;
const LIMIT_RANGES = {
  warmAtOnce: [1, 16],
  throttleLimitMB: [1, 100_000],
} as const satisfies Record<keyof P2pConfigLimits, readonly [number, number]>;

/**
 * Unknown keys are left out, so that a newer webhook can add some; what it changes in meaning gets a new version.
 *
 * @throws ShoalError LimitExceeded or ConfigInvalid, saying what is wrong.
 */
export function parseP2pConfig(text: string): P2pConfig {
  const value = parseObject(text, 'p2p-config');
  if (value.version !== 1) throw invalid('version', 'p2p-config', `it is ${show(value.version)}, wanted 1`);
  return {
    version: 1,
    images: parseList(value.images, 'images', P2P_CONFIG_IMAGES_MAX, isImageReference),
    secrets: parseList(value.secrets, 'secrets', P2P_CONFIG_SECRETS_MAX, isSecretName),
    limits: value.limits === undefined ? {} : readLimits(value.limits),
  };
}

/** One line of JSON that `parseP2pConfig` takes, with its keys always in the same order. */
export function formatP2pConfig(config: P2pConfig): string {
  const { version, images, secrets, limits } = config;
  const { warmAtOnce, throttleLimitMB } = limits;
  const hasLimits = warmAtOnce !== undefined || throttleLimitMB !== undefined;
  return JSON.stringify({
    version,
    images,
    secrets,
    ...(hasLimits && { limits: { warmAtOnce, throttleLimitMB } }),
  });
}

/** The limits alone, as a user writes them: `{"warmAtOnce":3}`. Throws as `parseP2pConfig` does. */
export function parseP2pConfigLimits(text: string): P2pConfigLimits {
  return readLimits(parseObject(text, 'limits'));
}

/** Whether kubelet could be asked for a secret of this name. */
export function isSecretName(name: string): boolean {
  return name.length <= SECRET_NAME_LENGTH_MAX && secretName.test(name);
}

/** Whether this may stand in a p2p-config: not whether it is a valid reference. */
export function isImageReference(image: string): boolean {
  return image.length <= IMAGE_REFERENCE_LENGTH_MAX && printable.test(image);
}

const wanted = { images: 'an image reference', secrets: 'the name of a secret' } as const;

type JsonObject = Readonly<Record<string, unknown>>;

function parseObject(text: string, what: string): JsonObject {
  const sizeBytes = Buffer.byteLength(text);
  if (sizeBytes > P2P_CONFIG_BYTES_MAX) {
    const message = `Cannot read "${what}": it has ${sizeBytes} bytes, at most ${P2P_CONFIG_BYTES_MAX} are allowed`;
    throw new ShoalError(ErrorCode.LimitExceeded, message);
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw invalid(what, 'annotation', 'it is not JSON');
  }
  if (!isObject(value)) throw invalid(what, 'annotation', 'it is not a JSON object');
  return value;
}

function parseList(
  value: unknown,
  key: keyof typeof wanted,
  countMax: number,
  accepts: (item: string) => boolean,
): string[] {
  if (!Array.isArray(value)) throw invalid(key, 'p2p-config', 'it is not a list');
  if (value.length > countMax) {
    const message = `Cannot read "${key}" of p2p-config: it has ${value.length} entries, at most ${countMax} are allowed`;
    throw new ShoalError(ErrorCode.LimitExceeded, message);
  }
  return value.map((item: unknown, index) => {
    if (typeof item === 'string' && accepts(item)) return item;
    throw invalid(`${key}[${index}]`, 'p2p-config', `it is ${show(item)}, wanted ${wanted[key]}`);
  });
}

function readLimits(value: unknown): P2pConfigLimits {
  if (!isObject(value)) throw invalid('limits', 'p2p-config', 'it is not a JSON object');
  const limits: { -readonly [Key in keyof P2pConfigLimits]: number } = {};
  for (const key of ['warmAtOnce', 'throttleLimitMB'] as const) {
    const limit = value[key];
    if (limit === undefined) continue;
    const [min, max] = LIMIT_RANGES[key];
    if (typeof limit !== 'number' || !Number.isInteger(limit) || limit < min || limit > max) {
      throw invalid(key, 'limits', `it is ${show(limit)}, wanted an integer from ${min} to ${max}`);
    }
    limits[key] = limit;
  }
  return limits;
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Enough of a wrong value to find it, and no more. */
function show(value: unknown): string {
  return (JSON.stringify(value) ?? 'missing').slice(0, 80);
}

function invalid(key: string, where: string, found: string): ShoalError {
  return new ShoalError(ErrorCode.ConfigInvalid, `Cannot read "${key}" of ${where}: ${found}`);
}
