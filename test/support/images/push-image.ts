import { readFile } from 'node:fs/promises';
import { Agent, type Dispatcher, request } from 'undici';
import { type BuiltImage, type Descriptor, readBlob } from './build-image.ts';

/** Uploads at once: enough to keep a local registry busy. */
const UPLOADS_MAX = 3;

export interface PushTarget {
  /** `127.0.0.1:PORT` */
  readonly host: string;
  readonly repository: string;
  readonly tag: string;
  readonly auth?: { readonly user: string; readonly password: string };
  /** Default http. */
  readonly scheme?: 'http' | 'https';
}

export interface PushedImage {
  /** `HOST/REPOSITORY:TAG` */
  readonly reference: string;
  /** `HOST/REPOSITORY@DIGEST` */
  readonly digestReference: string;
  /** Where the bytes are: for requests of one's own. */
  readonly manifestUrl: string;
}

/** Pushes blobs, then the manifest, then the index, over the registry API. Blobs already there are left out. */
export async function pushImage(image: BuiltImage, target: PushTarget): Promise<PushedImage> {
  const base = `${target.scheme ?? 'http'}://${target.host}/v2/${target.repository}`;
  const agent = new Agent();
  try {
    const client = { agent, base, headers: authorization(target) };
    const waiting = [...image.blobs];
    const worker = async () => {
      for (let blob = waiting.shift(); blob !== undefined; blob = waiting.shift())
        await pushBlob(client, image, blob);
    };
    await Promise.all(Array.from({ length: UPLOADS_MAX }, worker));
    if (image.root !== image.manifest) {
      for (const manifest of image.manifests) await pushManifest(client, image, manifest, manifest.digest);
    }
    await pushManifest(client, image, image.root, target.tag);
  } finally {
    await agent.close();
  }
  const name = `${target.host}/${target.repository}`;
  return {
    reference: `${name}:${target.tag}`,
    digestReference: `${name}@${image.root.digest}`,
    manifestUrl: `${base}/manifests/${target.tag}`,
  };
}

interface Client {
  readonly agent: Agent;
  readonly base: string;
  readonly headers: Record<string, string>;
}

async function pushBlob(client: Client, image: BuiltImage, blob: Descriptor): Promise<void> {
  const head = await send(client, `${client.base}/blobs/${blob.digest}`, { method: 'HEAD' }, [200, 404]);
  if (head.statusCode === 200) return;
  const start = await send(client, `${client.base}/blobs/uploads/`, { method: 'POST' }, [202]);
  const location = new URL(String(start.headers.location), client.base);
  location.searchParams.set('digest', blob.digest);
  const upload = {
    method: 'PUT' as const,
    headers: { 'content-type': 'application/octet-stream', 'content-length': String(blob.size) },
    body: readBlob(image, blob.digest),
  };
  await send(client, location.href, upload, [201]);
}

async function pushManifest(
  client: Client,
  image: BuiltImage,
  manifest: Descriptor,
  reference: string,
): Promise<void> {
  const body = await readFile(image.blobPath(manifest.digest));
  const options = { method: 'PUT' as const, headers: { 'content-type': manifest.mediaType }, body };
  await send(client, `${client.base}/manifests/${reference}`, options, [201]);
}

async function send(
  client: Client,
  url: string,
  options: Pick<Dispatcher.DispatchOptions, 'method' | 'body'> & { headers?: Record<string, string> },
  accepted: readonly number[],
): Promise<Dispatcher.ResponseData> {
  const headers = { ...client.headers, ...options.headers };
  const response = await request(url, { ...options, headers, dispatcher: client.agent });
  const text = await response.body.text();
  if (!accepted.includes(response.statusCode)) {
    const { pathname } = new URL(url);
    throw new Error(
      `Cannot push "${pathname}": ${response.statusCode} ${text}, wanted ${accepted.join(' or ')}`,
    );
  }
  return response;
}

function authorization({ auth }: PushTarget): Record<string, string> {
  if (auth === undefined) return {};
  return { authorization: `Basic ${Buffer.from(`${auth.user}:${auth.password}`).toString('base64')}` };
}
