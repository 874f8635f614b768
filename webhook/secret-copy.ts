import type { V1Secret } from '@kubernetes/client-node';
import type { P2pHostRule } from '../shim/base/p2p-address.ts';
import type { AnnotationKeys } from './annotation-keys.ts';
import { REGISTRY_SECRET_KEYS, toP2pDockerConfig } from './docker-config.ts';

export const OWNER_LABEL = 'app.kubernetes.io/managed-by';
export const OWNER = 'shoal-webhook';

export interface CopySettings {
  readonly keys: AnnotationKeys;
  readonly hostRules: readonly P2pHostRule[];
}

export interface CopySituation {
  /** Name of the copy. */
  readonly copyName: string;
  readonly sourceName: string;
  /** Undefined where there is none. */
  readonly source: V1Secret | undefined;
  readonly copy: V1Secret | undefined;
  /** Whether an opted-in pod names the source, or did a moment ago. */
  readonly isNamed: boolean;
}

/** What to do about one copy. Writes carry the version that was read, so that a change in between makes them fail. */
export type CopyAction =
  | { readonly kind: 'nothing' }
  | { readonly kind: 'create'; readonly secret: V1Secret }
  | { readonly kind: 'update'; readonly secret: V1Secret }
  /** Also where its type has to change, which cannot be: the next look makes it anew. */
  | { readonly kind: 'delete'; readonly copy: V1Secret }
  | { readonly kind: 'tell'; readonly about: V1Secret; readonly problem: CopyProblem };

/** Told once as an Event, on the secret that is in the way or wrong. */
export type CopyProblem = 'NameTaken' | 'NotARegistrySecret' | 'MalformedSecret';

export const PROBLEM_TEXTS: Readonly<Record<CopyProblem, string>> = {
  NameTaken:
    'a secret of this name is there already and was not made by Shoal: it is left as it is, and used for peer-to-peer addresses',
  NotARegistrySecret:
    'named as a pull secret, but neither of type kubernetes.io/dockerconfigjson nor kubernetes.io/dockercfg: it gets no peer-to-peer form',
  MalformedSecret: 'the content is not that of a pull secret: it gets no peer-to-peer form',
};

const NOTHING: CopyAction = { kind: 'nothing' };

/** Decides about one source and its copy. Touches nothing that does not carry both marks of being our copy of it. */
export function decideCopy(situation: CopySituation, settings: CopySettings): CopyAction {
  const { copy, sourceName, isNamed } = situation;
  const source = isGoing(situation.source) ? undefined : situation.source;
  if (copy !== undefined && !isOurCopy(copy, sourceName, settings.keys)) {
    const isConflict = isNamed && source !== undefined && contentOf(source) !== undefined;
    return isConflict ? { kind: 'tell', about: copy, problem: 'NameTaken' } : NOTHING;
  }
  // It is being deleted: its end is an event of its own.
  if (isGoing(copy)) return NOTHING;
  if (source === undefined || !isNamed) return copy === undefined ? NOTHING : { kind: 'delete', copy };
  const desired = makeCopy(source, situation.copyName, settings);
  if (typeof desired === 'string') {
    return copy === undefined ? { kind: 'tell', about: source, problem: desired } : { kind: 'delete', copy };
  }
  if (copy === undefined) return { kind: 'create', secret: desired };
  if (copy.type !== desired.type || copy.immutable === true) return { kind: 'delete', copy };
  return isSame(copy, desired) ? NOTHING : { kind: 'update', secret: withVersion(desired, copy) };
}

export function isOurCopy(secret: V1Secret, sourceName: string, keys: AnnotationKeys): boolean {
  const { labels, annotations } = secret.metadata ?? {};
  return labels?.[OWNER_LABEL] === OWNER && annotations?.[keys.p2pSource] === sourceName;
}

function makeCopy(source: V1Secret, name: string, settings: CopySettings): V1Secret | CopyProblem {
  const { type = '', metadata } = source;
  const key = REGISTRY_SECRET_KEYS[type];
  const content = contentOf(source);
  if (key === undefined) return 'NotARegistrySecret';
  const changed = content === undefined ? undefined : toP2pDockerConfig(type, content, settings.hostRules);
  if (changed === undefined) return 'MalformedSecret';
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    type,
    metadata: {
      name,
      ...(metadata?.namespace !== undefined && { namespace: metadata.namespace }),
      labels: { [OWNER_LABEL]: OWNER },
      annotations: { [settings.keys.p2pSource]: metadata?.name ?? '' },
      // So that Kubernetes removes the copy with its source also while no webhook runs.
      ownerReferences: [
        { apiVersion: 'v1', kind: 'Secret', name: metadata?.name ?? '', uid: metadata?.uid ?? '' },
      ],
    },
    data: { [key]: Buffer.from(changed).toString('base64') },
  };
}

/** Undefined where the secret is of another type, or has no content under the key of its type. */
function contentOf({ type = '', data }: V1Secret): string | undefined {
  const content = data?.[REGISTRY_SECRET_KEYS[type] ?? ''];
  return content === undefined ? undefined : Buffer.from(content, 'base64').toString('utf8');
}

/** Labels and annotations of others on our copy are left there. */
function withVersion(desired: V1Secret, copy: V1Secret): V1Secret {
  const { resourceVersion, uid, labels, annotations } = copy.metadata ?? {};
  return {
    ...desired,
    metadata: {
      ...desired.metadata,
      ...(resourceVersion !== undefined && { resourceVersion }),
      ...(uid !== undefined && { uid }),
      labels: { ...labels, ...desired.metadata?.labels },
      annotations: { ...annotations, ...desired.metadata?.annotations },
    },
  };
}

function isSame(copy: V1Secret, desired: V1Secret): boolean {
  const owner = copy.metadata?.ownerReferences?.[0]?.uid;
  const sameOwner =
    copy.metadata?.ownerReferences?.length === 1 && owner === desired.metadata?.ownerReferences?.[0]?.uid;
  const [have, want] = [copy.data ?? {}, desired.data ?? {}];
  const sameData =
    Object.keys(have).length === Object.keys(want).length &&
    Object.entries(want).every(([key, value]) => have[key] === value);
  return sameOwner && sameData;
}

function isGoing(secret: V1Secret | undefined): boolean {
  return secret?.metadata?.deletionTimestamp !== undefined;
}
