import { type FollowOptions, followList } from './follow-list.ts';
import { memberOf, textOf } from './json.ts';

/** Namespaces that opt in, by name: what the API server keeps for all its clients is no larger. */
export const NAMESPACES_MAX = 10_000;

const KEY_NAME = 'image-accelerate-mode';
const OPT_IN_VALUE = 'p2p';
/** Names and labels alone; the rest of a namespace is not even sent. */
const METADATA_ACCEPT = 'application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1';
const METADATA_LIST_ACCEPT = 'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1';

export interface LabelledNamespacesOptions extends Pick<FollowOptions, 'openAccess' | 'onState' | 'random'> {
  /** Prefix of the label `<keyPrefix>/image-accelerate-mode`. */
  readonly keyPrefix: string;
  /** Told all the names each time that they change. */
  readonly onNames: (names: readonly string[]) => void;
}

/** Follows the namespaces that carry the opt-in label until `signal` aborts. The server selects them; one that loses its label is told as removed. */
export async function followLabelledNamespaces(
  options: LabelledNamespacesOptions,
  signal: AbortSignal,
): Promise<void> {
  const names = new Set<string>();
  const tell = (): void => options.onNames([...names].sort());
  await followList(
    {
      ...options,
      list: {
        path: '/api/v1/namespaces',
        query: { labelSelector: `${options.keyPrefix}/${KEY_NAME}=${OPT_IN_VALUE}` },
        accept: METADATA_LIST_ACCEPT,
      },
      watchAccept: METADATA_ACCEPT,
      itemsMax: NAMESPACES_MAX,
      onList: (items) => {
        names.clear();
        for (const name of items.map(nameOf)) if (name !== undefined) names.add(name);
        tell();
      },
      onChange: (type, item) => {
        const name = nameOf(item);
        if (name === undefined) return;
        const had = names.has(name);
        if (type === 'removed') names.delete(name);
        else if (names.size < NAMESPACES_MAX) names.add(name);
        if (had !== names.has(name)) tell();
      },
    },
    signal,
  );
}

function nameOf(namespace: unknown): string | undefined {
  return textOf(memberOf(namespace, 'metadata'), 'name');
}
