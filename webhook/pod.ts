/**
 * A pod as far as admission looks at it, read from JSON that anybody may have sent: whatever has an unexpected shape
 * counts as not there.
 */
export interface AdmittedPod {
  /** Undefined where the pod has none, which a patch has to know. */
  readonly annotations: ReadonlyMap<string, string> | undefined;
  readonly labels: ReadonlyMap<string, string>;
  /** Names in the order of `spec.imagePullSecrets`, empty ones left out. */
  readonly pullSecrets: readonly string[];
  /** In the order in which kubelet pulls: init, ephemeral, regular containers. */
  readonly containers: readonly AdmittedContainer[];
}

export interface AdmittedContainer {
  /** JSON pointer to its image. */
  readonly imagePath: string;
  readonly image: string;
}

const CONTAINER_LISTS = ['initContainers', 'ephemeralContainers', 'containers'] as const;

/** Undefined where the value is no pod at all. */
export function readPod(value: unknown): AdmittedPod | undefined {
  const pod = asObject(value);
  const metadata = asObject(pod?.metadata);
  const spec = asObject(pod?.spec);
  if (metadata === undefined || spec === undefined) return undefined;
  const annotations = asObject(metadata.annotations);
  return {
    annotations: annotations && textEntries(annotations),
    labels: textEntries(asObject(metadata.labels) ?? {}),
    pullSecrets: asList(spec.imagePullSecrets).flatMap(readName),
    containers: CONTAINER_LISTS.flatMap((list) =>
      asList(spec[list]).flatMap((container, index) =>
        readContainer(container, `/spec/${list}/${index}/image`),
      ),
    ),
  };
}

function readContainer(value: unknown, imagePath: string): AdmittedContainer[] {
  const image = asObject(value)?.image;
  return typeof image === 'string' && image !== '' ? [{ imagePath, image }] : [];
}

function readName(value: unknown): string[] {
  const name = asObject(value)?.name;
  return typeof name === 'string' && name !== '' ? [name] : [];
}

function textEntries(object: Readonly<Record<string, unknown>>): ReadonlyMap<string, string> {
  const entries = Object.entries(object);
  return new Map(entries.filter((entry): entry is [string, string] => typeof entry[1] === 'string'));
}

export function asObject(value: unknown): Readonly<Record<string, unknown>> | undefined {
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
  return isObject ? (value as Record<string, unknown>) : undefined;
}

function asList(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}
