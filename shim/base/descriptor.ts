import type { Digest } from './digest.ts';

/** OCI image spec, descriptor. Only the fields that a pull needs. */
export interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly annotations?: Readonly<Record<string, string>>;
  /** Non-empty on foreign layers. */
  readonly urls?: readonly string[];
  readonly platform?: Platform;
}

export interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant?: string;
  readonly osVersion?: string;
}

/** A manifest, index or config whose digest and size have been checked. */
export interface RawDocument {
  readonly descriptor: Descriptor;
  readonly bytes: Uint8Array;
}

/** How a layer's tar is compressed; `none` is a plain tar. */
export type Compression = 'gzip' | 'zstd' | 'none';
