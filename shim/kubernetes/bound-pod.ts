import { listOf, memberOf, textOf } from './json.ts';

/** What is read of a pod that is bound to this node. */
export interface BoundPodFacts {
  readonly podUid: string;
  readonly namespace: string;
  readonly name: string;
  /** Only those under the key prefix. */
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  /** As in the spec, in the order in which kubelet pulls them; without those that it may not pull. */
  readonly images: readonly string[];
  /** Names of its imagePullSecrets; admission has put those of its service account there. */
  readonly secrets: readonly string[];
  /** Its containers are yet to be started. */
  readonly isWaiting: boolean;
  /** It has ended, or is about to. */
  readonly isOver: boolean;
}

/** More containers than kubelet runs in one pod. */
const IMAGES_MAX = 128;
const SECRETS_MAX = 64;

/** Reads a Pod object; undefined for what is none. */
export function readBoundPod(pod: unknown, keyPrefix: string): BoundPodFacts | undefined {
  const metadata = memberOf(pod, 'metadata');
  const spec = memberOf(pod, 'spec');
  const phase = textOf(memberOf(pod, 'status'), 'phase');
  const podUid = uidOf(pod);
  const namespace = textOf(metadata, 'namespace');
  const name = textOf(metadata, 'name');
  if (podUid === undefined || namespace === undefined || name === undefined) return undefined;
  const isLeaving = memberOf(metadata, 'deletionTimestamp') !== undefined;
  return {
    podUid,
    namespace,
    name,
    labels: ownEntries(memberOf(metadata, 'labels'), keyPrefix),
    annotations: ownEntries(memberOf(metadata, 'annotations'), keyPrefix),
    images: imagesOf(spec),
    secrets: listOf(spec, 'imagePullSecrets')
      .flatMap((secret) => textOf(secret, 'name') ?? [])
      .slice(0, SECRETS_MAX),
    isWaiting: phase === 'Pending' && !isLeaving,
    isOver: phase === 'Succeeded' || phase === 'Failed' || isLeaving,
  };
}

/** The UID that kubelet gives its containers: of a static pod, that of its manifest. */
export function uidOf(pod: unknown): string | undefined {
  const metadata = memberOf(pod, 'metadata');
  const ofManifest = textOf(memberOf(metadata, 'annotations'), 'kubernetes.io/config.hash');
  return ofManifest ?? textOf(metadata, 'uid');
}

/** Init containers come first; ephemeral ones are added to a pod that runs. */
function imagesOf(spec: unknown): string[] {
  const containers = [
    ...listOf(spec, 'initContainers'),
    ...listOf(spec, 'containers'),
    ...listOf(spec, 'ephemeralContainers'),
  ];
  const pulled = containers.filter((container) => textOf(container, 'imagePullPolicy') !== 'Never');
  const images = pulled.flatMap((container) => textOf(container, 'image') ?? []);
  return [...new Set(images)].slice(0, IMAGES_MAX);
}

function ownEntries(map: unknown, keyPrefix: string): Record<string, string> {
  if (typeof map !== 'object' || map === null) return {};
  const entries = Object.entries(map).filter(([key]) => key.startsWith(`${keyPrefix}/`));
  return Object.fromEntries(
    entries.filter((entry): entry is [string, string] => typeof entry[1] === 'string'),
  );
}
