import type { Compression, Descriptor, RawDocument } from '../base/descriptor.ts';
import type { Digest } from '../base/digest.ts';

/** One image to be stored: everything but the layers' bytes. */
export interface ImagePlan {
  /** Canonical names of the records: `host/repo:tag` if the reference had a tag, `host/repo@digest` always. */
  readonly names: readonly string[];
  /** What the reference resolved to: an index or a manifest. */
  readonly target: Descriptor;
  /** Host (with port) and repository, for `containerd.io/distribution.source.*`. */
  readonly host: string;
  readonly repository: string;
  readonly index: RawDocument | undefined;
  readonly manifest: RawDocument;
  readonly config: RawDocument;
  readonly layers: readonly LayerPlan[];
  /** CRI runtime handler of the pull; decides the snapshotter. */
  readonly runtimeHandler: string | undefined;
}

export interface LayerPlan {
  readonly descriptor: Descriptor;
  readonly diffId: Digest;
  readonly chainId: Digest;
  readonly compression: Compression;
}

/** A layer whose bytes have both digests right. */
export interface ReadyLayer {
  /** The complete blob; stays readable until `addLayer` has settled. */
  readonly blobPath: string;
  /** The directory that `stagingDirectory` gave, now holding the tree; absent when the session wants no trees. */
  readonly stagingDirectory: string | undefined;
  readonly impliedDirectories: readonly string[];
}

/** Where finished images go. Implementations: containerd, and an OCI image layout directory. */
export interface ImageStore {
  readonly kind: 'containerd' | 'layout';
  /** Begins an import. Everything that it makes is protected from collection until `finish` or `abort`. */
  open(plan: ImagePlan, signal: AbortSignal): Promise<ImportSession>;
  /** Begins to bring an image's layers ahead of a pull. No image ever comes of it. */
  openWarm(plan: ImagePlan, signal: AbortSignal): Promise<WarmSession>;
  /** Whether an image has this canonical name. */
  has(name: string, signal: AbortSignal): Promise<boolean>;
}

/** The layers of one image on their way into the store. */
export interface LayerSession {
  /** Indexes of the layers whose bytes are still needed; the others are in the store, blob and tree. */
  readonly missing: ReadonlySet<number>;
  /**
   * How trees are to be extracted: as overlay upper directories in parallel, merged in order, or not at all. The lowest layer is always
   * extracted in `merge` mode: nothing lies below it, so that its whiteouts have nothing to hide.
   */
  readonly treeMode: 'overlay' | 'merge' | 'none';
  /** A fresh private directory (0700) for layer `index`; in `merge` mode the one root, given out in layer order. */
  stagingDirectory(index: number, signal: AbortSignal): Promise<string>;
  /**
   * Before `addLayer`, once all bytes of the blob are there: the store may begin to take it over, whatever comes of the layer. Called
   * again, it forgets the file that it was given before. Never rejects. The file must not be written to again. True when the store
   * has hashed these very bytes and found the layer's digest.
   */
  takeBlob?(index: number, blobPath: string, signal: AbortSignal): Promise<boolean>;
  /** Whether `takeBlob` is going to hash the layer's blob: hashing it elsewhere as well would be for nothing. */
  checksBlob?(index: number): boolean;
  /** Takes over one layer, in any order; commits in layer order inside. Gives the path of the stored blob if peers can be served from it. */
  addLayer(index: number, layer: ReadyLayer, signal: AbortSignal): Promise<string | undefined>;
  /**
   * The stored blob of a missing layer whose bytes are already here and only lack their tree: it can be unpacked from
   * there, and nothing has to be fetched.
   */
  blobPath?(index: number): string | undefined;
  /** Takes everything back; safe at any time and more than once. */
  abort(): Promise<void>;
}

/** One image on its way into the store. Nothing of it is visible as an image before `finish` has resolved. */
export interface ImportSession extends LayerSession {
  /** `containerd`: blobs and records' content are in place, and containerd's own PullImage must unpack them. */
  readonly finishedBy: 'shoal' | 'containerd';
  /** Writes the records, last. Returns the image ID (digest of the config). */
  finish(signal: AbortSignal): Promise<Digest>;
  /**
   * Takes everything back; safe at any time, more than once, and after `finish`. Then it does nothing, except for a session that
   * containerd finishes: it lets go of what `finish` kept for containerd's own pull, so call it when that is over.
   */
  abort(): Promise<void>;
}

/** Layers that are brought ahead of a pull: never visible as an image, whatever happens. */
export interface WarmSession extends LayerSession {
  /**
   * Ends the work: takes back what is half-done and keeps the complete layers from collection until `abort`, an hour at
   * least. A later session finds them present.
   */
  hold(): Promise<void>;
}
