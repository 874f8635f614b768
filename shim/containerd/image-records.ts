import type { Descriptor, RawDocument } from '../base/descriptor.ts';
import type { ImagePlan } from '../store/image-store.ts';
import { api } from './api.ts';
import { GrpcCode, unless } from './call-error.ts';
import type { ContainerdClient } from './containerd-client.ts';
import type { ImageRecord, Labels, WireDescriptor } from './messages.ts';

/** What CRI's own pull puts on its records; without it CRI adds a second record of its own. */
const MANAGED = { 'io.cri-containerd.image': 'managed' };
const GC_REF = 'containerd.io/gc.ref.';

/** Names of an image's records: image ID and digests are written first, then tags, which may have meant another image. */
export function recordNames(plan: Pick<ImagePlan, 'names' | 'config'>): [string[], string[]] {
  const digests = plan.names.filter((name) => name.includes('@'));
  const tags = plan.names.filter((name) => !name.includes('@'));
  return [[plan.config.descriptor.digest, ...digests], tags];
}

/** Creates a record or points it to `target`; labels that it has already, such as that of a pinned image, stay. */
export async function writeRecord(
  client: ContainerdClient,
  name: string,
  target: Descriptor,
  signal: AbortSignal,
): Promise<void> {
  const image: ImageRecord = { name, labels: MANAGED, target: wireDescriptor(target) };
  const options = { signal, doing: `write image record "${name}"` };
  const created = await unless([GrpcCode.AlreadyExists], client.call(api.images.create, { image }, options));
  if (created !== undefined) return;
  const updateMask = { paths: ['target', ...Object.keys(MANAGED).map((key) => `labels.${key}`)] };
  await client.call(api.images.update, { image, updateMask }, options);
}

export async function hasRecord(
  client: ContainerdClient,
  name: string,
  signal: AbortSignal,
): Promise<boolean> {
  const call = client.call(api.images.get, { name }, { signal, doing: `look up image "${name}"` });
  return (await unless([GrpcCode.NotFound], call)) !== undefined;
}

/** Labels by which collection of garbage finds everything from the manifest down. */
export function manifestReferences(plan: ImagePlan, keepLayers: boolean): Labels {
  const labels: Record<string, string> = { [`${GC_REF}content.config`]: plan.config.descriptor.digest };
  if (!keepLayers) return labels;
  for (const [index, layer] of plan.layers.entries())
    labels[`${GC_REF}content.l.${index}`] = layer.descriptor.digest;
  return labels;
}

/** All manifests by their place in the index, as containerd labels it, although only one of them is here. */
export function indexReferences(index: RawDocument): Labels {
  const { manifests } = JSON.parse(Buffer.from(index.bytes).toString('utf8')) as {
    manifests: { digest: string }[];
  };
  return Object.fromEntries(manifests.map(({ digest }, place) => [`${GC_REF}content.m.${place}`, digest]));
}

/** The config keeps the unpacked image: its topmost snapshot, which keeps those below. */
export function configReferences(plan: ImagePlan, snapshotter: string | undefined): Labels {
  const top = plan.layers.at(-1)?.chainId;
  return top === undefined || snapshotter === undefined ? {} : { [`${GC_REF}snapshot.${snapshotter}`]: top };
}

function wireDescriptor({ mediaType, digest, sizeBytes }: Descriptor): WireDescriptor {
  return { mediaType, digest, size: sizeBytes };
}
