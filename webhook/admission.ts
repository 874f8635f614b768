import { isShoalError } from '../shim/base/errors.ts';
import { type P2pHostRule, p2pHostOf } from '../shim/base/p2p-address.ts';
import {
  formatP2pConfig,
  isImageReference,
  isSecretName,
  P2P_CONFIG_BYTES_MAX,
  P2P_CONFIG_IMAGES_MAX,
  P2P_CONFIG_SECRETS_MAX,
  type P2pConfig,
  type P2pConfigLimits,
  parseP2pConfigLimits,
} from '../shim/base/p2p-config.ts';
import type { AnnotationKeys } from './annotation-keys.ts';
import { hostOfImage, withHost } from './image-host.ts';
import type { AdmittedPod } from './pod.ts';
import { p2pSecretName, SOURCE_NAME_LENGTH_MAX, sourceSecretName } from './secret-names.ts';

export interface AdmissionSettings {
  readonly keys: AnnotationKeys;
  /** Limits of pods that give none themselves. */
  readonly limits: P2pConfigLimits;
  /** Also change image addresses to their peer-to-peer form, as the product did that clusters move over from. */
  readonly rewriteImages: boolean;
  /** Which registries have such a form. */
  readonly hostRules: readonly P2pHostRule[];
}

/** Which of the webhook's two entries called: one for labelled namespaces, one for labelled pods elsewhere. */
export type AdmissionScope = 'namespace' | 'pod';

/** One step of a JSON patch (RFC 6902). */
export interface PatchStep {
  readonly op: 'add' | 'replace';
  readonly path: string;
  readonly value: unknown;
}

/** Why a pod is or is not changed: a closed set, used as a metric label. */
export type AdmissionReason = 'opted-in' | 'opted-out' | 'not-opted-in' | 'mirror-pod' | 'annotations-full';

export interface AdmissionDecision {
  readonly reason: AdmissionReason;
  /** Empty where the pod stays as it is, also because it has everything already. */
  readonly patch: readonly PatchStep[];
  /** What its creator should know. */
  readonly warnings: readonly string[];
}

/** Kubernetes allows this much in all keys and values of an object's annotations together. */
const ANNOTATIONS_BYTES_MAX = 256 << 10;
/** Kubelet's copies of static pods; a node that creates one with a secret in it is refused by the API server. */
const MIRROR_KEY = 'kubernetes.io/config.mirror';

/**
 * What to change in a pod: the two annotations, a pull secret for each that the pod has, and, if so set, its image
 * addresses. Applied to its own result it changes nothing; after another webhook added a container it completes the rest.
 */
export function decideAdmission(
  pod: AdmittedPod,
  scope: AdmissionScope,
  settings: AdmissionSettings,
): AdmissionDecision {
  const verdict = judge(pod, scope, settings.keys);
  if (verdict !== 'opted-in') return { reason: verdict, patch: [], warnings: [] };
  const images = pod.containers.map(({ image, imagePath }) => ({
    path: imagePath,
    from: image,
    to: settings.rewriteImages ? p2pImage(image, settings.hostRules) : image,
  }));
  const secrets = planSecrets(pod.pullSecrets);
  const { limits, warnings } = chooseLimits(pod, settings);
  const names = images.map((image) => image.to);
  const annotations = planAnnotations(
    pod,
    { version: 1, images: listed(names), secrets: secrets.all, limits },
    settings,
  );
  if (annotations === undefined) {
    return { reason: 'annotations-full', patch: [], warnings: ['the pod has no room for annotations left'] };
  }
  const rewritten = images.filter((image) => image.to !== image.from);
  const patch: PatchStep[] = [
    ...annotations,
    ...secrets.added.map((name) => add('/spec/imagePullSecrets/-', { name })),
    ...rewritten.map(({ path, to }): PatchStep => ({ op: 'replace', path, value: to })),
  ];
  return { reason: 'opted-in', patch, warnings: [...warnings, ...secrets.warnings] };
}

/** The pod's own word counts more than its namespace's, and `off` more than anything, as on the node. */
function judge(pod: AdmittedPod, scope: AdmissionScope, keys: AnnotationKeys): AdmissionReason {
  if (pod.annotations?.has(MIRROR_KEY)) return 'mirror-pod';
  const label = pod.labels.get(keys.mode);
  if (label === 'off' || pod.annotations?.get(keys.mode) === 'off') return 'opted-out';
  return scope === 'namespace' || label === 'p2p' ? 'opted-in' : 'not-opted-in';
}

interface SecretPlan {
  /** Every secret for peer-to-peer addresses that the pod will name. */
  readonly all: readonly string[];
  readonly added: readonly string[];
  readonly warnings: readonly string[];
}

function planSecrets(present: readonly string[]): SecretPlan {
  const names = new Set(present);
  const own = [...names].filter((name) => sourceSecretName(name) !== undefined && isSecretName(name));
  const sources = [...names].filter((name) => sourceSecretName(name) === undefined && isSecretName(name));
  const copies = sources.flatMap((name) => p2pSecretName(name) ?? []);
  const room = Math.max(0, P2P_CONFIG_SECRETS_MAX - own.length);
  const added = copies.filter((name) => !names.has(name)).slice(0, room);
  return {
    all: [...own, ...added].slice(0, P2P_CONFIG_SECRETS_MAX).toSorted(),
    added,
    warnings: secretWarnings(sources, copies.filter((name) => !names.has(name)).length - added.length),
  };
}

function secretWarnings(sources: readonly string[], leftOut: number): string[] {
  const tooLong = sources.filter((name) => name.length > SOURCE_NAME_LENGTH_MAX).length;
  return [
    ...(tooLong > 0
      ? [
          `${tooLong} pull secrets have names above ${SOURCE_NAME_LENGTH_MAX} characters and get no peer-to-peer form`,
        ]
      : []),
    ...(leftOut > 0
      ? [`${leftOut} pull secrets get no peer-to-peer form: a pod has at most ${P2P_CONFIG_SECRETS_MAX}`]
      : []),
  ];
}

function chooseLimits(
  pod: AdmittedPod,
  { keys, limits }: AdmissionSettings,
): { readonly limits: P2pConfigLimits; readonly warnings: readonly string[] } {
  const text = pod.annotations?.get(keys.p2pLimits);
  if (text === undefined) return { limits, warnings: [] };
  try {
    return { limits: { ...limits, ...parseP2pConfigLimits(text) }, warnings: [] };
  } catch (error) {
    if (!isShoalError(error)) throw error;
    return { limits, warnings: [`annotation ${keys.p2pLimits} is not used: ${error.message}`] };
  }
}

/** Undefined where the pod's own annotations leave no room: then it is better left alone than made invalid. */
function planAnnotations(
  pod: AdmittedPod,
  config: P2pConfig,
  { keys }: AdmissionSettings,
): PatchStep[] | undefined {
  const present = pod.annotations ?? new Map<string, string>();
  const others = [...present].filter(([key]) => key !== keys.mode && key !== keys.p2pConfig);
  const usedBytes = others.reduce((sum, [key, value]) => sum + byteLength(key) + byteLength(value), 0);
  const ownBytes = byteLength(keys.mode) + byteLength('p2p') + byteLength(keys.p2pConfig);
  const text = fitConfig(
    config,
    Math.min(P2P_CONFIG_BYTES_MAX, ANNOTATIONS_BYTES_MAX - usedBytes - ownBytes),
  );
  if (text === undefined) return undefined;
  const wanted: [string, string][] = [
    [keys.mode, 'p2p'],
    [keys.p2pConfig, text],
  ];
  const missing = wanted.filter(([key, value]) => present.get(key) !== value);
  if (missing.length === 0) return [];
  return [
    ...(pod.annotations === undefined ? [add('/metadata/annotations', {})] : []),
    ...missing.map(([key, value]) => add(`/metadata/annotations/${escapePointer(key)}`, value)),
  ];
}

/** The config as text, without the last images where it is too large: they are pulled all the same, but not warmed. */
function fitConfig(config: P2pConfig, bytesMax: number): string | undefined {
  const withImages = (count: number) => formatP2pConfig({ ...config, images: config.images.slice(0, count) });
  const all = withImages(config.images.length);
  if (byteLength(all) <= bytesMax) return all;
  if (byteLength(withImages(0)) > bytesMax) return undefined;
  let fits = 0;
  let tooMany = config.images.length;
  while (tooMany - fits > 1) {
    const middle = (fits + tooMany) >> 1;
    if (byteLength(withImages(middle)) <= bytesMax) fits = middle;
    else tooMany = middle;
  }
  return withImages(fits);
}

function listed(images: readonly string[]): string[] {
  return [...new Set(images)].filter(isImageReference).slice(0, P2P_CONFIG_IMAGES_MAX);
}

function p2pImage(image: string, rules: readonly P2pHostRule[]): string {
  const host = hostOfImage(image);
  const p2pHost = host === undefined ? undefined : p2pHostOf(host, rules);
  return p2pHost === undefined ? image : withHost(image, p2pHost);
}

function add(path: string, value: unknown): PatchStep {
  return { op: 'add', path, value };
}

/** RFC 6901, section 3. */
function escapePointer(key: string): string {
  return key.replaceAll('~', '~0').replaceAll('/', '~1');
}

function byteLength(text: string): number {
  return Buffer.byteLength(text);
}
