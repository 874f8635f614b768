import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import protobuf from 'protobufjs';
import { assert } from '../base/assert.ts';
import type * as wire from './messages.ts';

/** One RPC: where it lives and how its messages look on the wire. */
export interface Method<Request, Response> {
  /** `/package.Service/Method` */
  readonly path: string;
  encode(request: Request): Buffer;
  decode(bytes: Uint8Array): Response;
}

const root = loadDefinitions();

const content = 'containerd.services.content.v1.Content';
const images = 'containerd.services.images.v1.Images';
const snapshots = 'containerd.services.snapshots.v1.Snapshots';
const leases = 'containerd.services.leases.v1.Leases';

type Nothing = Readonly<Record<string, never>>;
type Update<Info> = { readonly info: Info; readonly updateMask: wire.FieldMask };

/** The calls that an import makes, by service. */
export const api = {
  content: {
    info: method<{ digest: string }, { info: wire.ContentInfo }>(content, 'Info'),
    update: method<Update<{ digest: string; labels: wire.Labels }>, unknown>(content, 'Update'),
    listStatuses: method<{ filters?: string[] }, { statuses: wire.IngestStatus[] }>(content, 'ListStatuses'),
    write: method<wire.WriteRequest, wire.WriteResponse>(content, 'Write'),
    abort: method<{ ref: string }, Nothing>(content, 'Abort'),
  },
  images: {
    get: method<{ name: string }, { image: wire.ImageRecord }>(images, 'Get'),
    create: method<{ image: wire.ImageRecord }, unknown>(images, 'Create'),
    update: method<{ image: wire.ImageRecord; updateMask: wire.FieldMask }, unknown>(images, 'Update'),
  },
  snapshots: {
    prepare: method<wire.SnapshotKey & { parent: string; labels: wire.Labels }, { mounts: wire.Mount[] }>(
      snapshots,
      'Prepare',
    ),
    commit: method<wire.SnapshotKey & { name: string; labels: wire.Labels }, Nothing>(snapshots, 'Commit'),
    remove: method<wire.SnapshotKey, Nothing>(snapshots, 'Remove'),
    stat: method<wire.SnapshotKey, { info: wire.SnapshotInfo }>(snapshots, 'Stat'),
    update: method<Update<{ name: string; labels: wire.Labels }> & { snapshotter: string }, unknown>(
      snapshots,
      'Update',
    ),
    list: method<{ snapshotter: string; filters?: string[] }, { info: wire.SnapshotInfo[] }>(
      snapshots,
      'List',
    ),
  },
  leases: {
    create: method<wire.Lease, { lease: wire.Lease }>(leases, 'Create'),
    delete: method<{ id: string; sync: boolean }, Nothing>(leases, 'Delete'),
    list: method<{ filters: string[] }, { leases: wire.Lease[] }>(leases, 'List'),
    addResource: method<{ id: string; resource: wire.LeaseResource }, Nothing>(leases, 'AddResource'),
    listResources: method<{ id: string }, { resources: wire.LeaseResource[] }>(leases, 'ListResources'),
  },
  introspection: {
    plugins: method<{ filters: string[] }, { plugins: wire.Plugin[] }>(
      'containerd.services.introspection.v1.Introspection',
      'Plugins',
    ),
  },
  version: {
    version: method<Nothing, { version: string }>('containerd.services.version.v1.Version', 'Version'),
  },
  cri: {
    status: method<{ verbose: boolean }, { info: wire.Labels }>('runtime.v1.RuntimeService', 'Status'),
    imageStatus: method<{ image: { image: string } }, { image: wire.CriImage | null }>(
      'runtime.v1.ImageService',
      'ImageStatus',
    ),
    imageFsInfo: method<Nothing, { imageFilesystems: { fsId: { mountpoint: string } | null }[] }>(
      'runtime.v1.ImageService',
      'ImageFsInfo',
    ),
  },
} as const;

/** protobufjs generates the code for a message at its first use, a millisecond each: this does so for all of them. */
export function prepareCodecs(): void {
  prepareBelow(root);
}

function prepareBelow(namespace: protobuf.NamespaceBase): void {
  if (namespace instanceof protobuf.Type) namespace.setup();
  for (const nested of namespace.nestedArray) if (nested instanceof protobuf.Namespace) prepareBelow(nested);
}

function loadDefinitions(): protobuf.Root {
  const directory = join(import.meta.dirname, 'proto');
  const definitions = new protobuf.Root();
  for (const name of ['google/protobuf/empty.proto', 'google/protobuf/field_mask.proto']) {
    const common = protobuf.common.get(name);
    assert(common?.nested !== undefined, `protobufjs knows ${name}`);
    definitions.addJSON(common.nested);
  }
  for (const file of readdirSync(directory))
    protobuf.parse(readFileSync(join(directory, file), 'utf8'), definitions);
  definitions.resolveAll();
  return definitions;
}

/** A message that others send us, and what we answer. `Message` is what `messages.ts` declares for the type. */
export function codec<Message>(typeName: string): {
  encode(message: Message): Buffer;
  decode(bytes: Uint8Array): Message;
} {
  const type = root.lookupType(typeName);
  return { encode: encoder<Message>(type), decode: decoder<Message>(type) };
}

/** `Request` and `Response` are what `messages.ts` declares for the types that the definition names. */
function method<Request, Response>(serviceName: string, name: string): Method<Request, Response> {
  const definition = root.lookupService(serviceName).methods[name];
  assert(definition !== undefined, `proto/ defines ${serviceName}.${name}`);
  definition.resolve();
  const { resolvedRequestType: requestType, resolvedResponseType: responseType } = definition;
  assert(requestType !== null && responseType !== null, `${serviceName}.${name} has both types`);
  return {
    path: `/${serviceName}/${name}`,
    encode: encoder<Request>(requestType),
    decode: decoder<Response>(responseType),
  };
}

function encoder<Message>(type: protobuf.Type): (message: Message) => Buffer {
  return (message) => {
    const bytes = type.encode(message as Record<string, unknown>).finish();
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  };
}

function decoder<Message>(type: protobuf.Type): (bytes: Uint8Array) => Message {
  return (bytes) => type.toObject(type.decode(bytes), TO_OBJECT) as Message;
}

/** Longs become numbers; absent fields get their defaults, so that the interfaces need no optional fields. */
const TO_OBJECT: protobuf.IConversionOptions = { longs: Number, defaults: true };
