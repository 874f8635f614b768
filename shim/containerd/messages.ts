/**
 * The messages of `proto/` as TypeScript sees them: camel-case names, 64-bit integers as numbers (sizes stay below 2^53),
 * enumerations as numbers. In answers every field is present; in requests the defaults may be left out.
 */

export type Labels = Readonly<Record<string, string>>;

export interface FieldMask {
  readonly paths: readonly string[];
}

export interface WireDescriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly annotations?: Labels;
}

export interface Mount {
  readonly type: string;
  readonly source: string;
  readonly options: readonly string[];
}

export interface ContentInfo {
  readonly digest: string;
  readonly size: number;
  readonly labels: Labels;
}

export const WriteAction = { Stat: 0, Write: 1, Commit: 2 } as const;

export interface WriteRequest {
  readonly action: number;
  readonly ref: string;
  readonly total?: number;
  readonly expected?: string;
  readonly offset?: number;
  readonly data?: Uint8Array;
  readonly labels?: Labels;
}

export interface WriteResponse {
  readonly action: number;
  readonly offset: number;
  readonly total: number;
  readonly digest: string;
}

export interface IngestStatus {
  readonly ref: string;
  readonly offset: number;
  readonly total: number;
}

export interface ImageRecord {
  readonly name: string;
  readonly labels: Labels;
  readonly target: WireDescriptor;
}

export const SnapshotKind = { View: 1, Active: 2, Committed: 3 } as const;

export interface SnapshotInfo {
  readonly name: string;
  readonly parent: string;
  readonly kind: number;
  readonly labels: Labels;
}

export interface SnapshotKey {
  readonly snapshotter: string;
  readonly key: string;
}

export interface Lease {
  readonly id: string;
  readonly labels: Labels;
}

export interface LeaseResource {
  readonly id: string;
  readonly type: string;
}

export interface Plugin {
  readonly type: string;
  readonly id: string;
  readonly exports: Labels;
  readonly capabilities: readonly string[];
  readonly initErr: { readonly message: string } | null;
}

export interface CriImage {
  readonly id: string;
  readonly repoTags: readonly string[];
  readonly repoDigests: readonly string[];
}
