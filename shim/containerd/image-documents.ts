import type { RawDocument } from '../base/descriptor.ts';
import { configReferences, indexReferences, manifestReferences } from './image-records.ts';
import type { SessionParts } from './import-session.ts';
import type { Labels } from './messages.ts';
import { sourceLabels } from './source-labels.ts';

type DocumentParts = Pick<
  SessionParts,
  'blobs' | 'lease' | 'plan' | 'name' | 'direct' | 'keepLayers' | 'nowMs'
>;

/** Stores config, manifest and index under the session's lease, with the labels by which containerd collects garbage. */
export async function writeDocuments(parts: DocumentParts, signal: AbortSignal): Promise<void> {
  const { plan, direct, keepLayers } = parts;
  await write(parts, 'config', plan.config, configReferences(plan, direct?.snapshots.name), signal);
  await write(parts, 'manifest', plan.manifest, manifestReferences(plan, keepLayers), signal);
  if (plan.index !== undefined) await write(parts, 'index', plan.index, indexReferences(plan.index), signal);
}

async function write(
  { blobs, lease, plan, name, nowMs }: DocumentParts,
  kind: 'config' | 'manifest' | 'index',
  { descriptor, bytes }: RawDocument,
  references: Labels,
  signal: AbortSignal,
): Promise<void> {
  const request = {
    digest: descriptor.digest,
    sizeBytes: descriptor.sizeBytes,
    ref: `${name}-${kind}`,
    lease: await lease.current(nowMs(), signal),
    labels: (existing: Labels) => ({ ...sourceLabels(plan, existing), ...references }),
  };
  await blobs.importBytes(request, bytes, signal);
}
