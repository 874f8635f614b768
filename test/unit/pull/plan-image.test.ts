import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Descriptor, Platform } from '../../../shim/base/descriptor.ts';
import { chainIdsOf, type Digest, digestOf } from '../../../shim/base/digest.ts';
import { ErrorCode } from '../../../shim/base/errors.ts';
import { planImage } from '../../../shim/pull/plan-image.ts';
import { parseReference } from '../../../shim/registry/reference.ts';
import type { ImagePlan } from '../../../shim/store/image-store.ts';
import { assertFails, neverAborted, originOf, startServer } from '../registry/loopback-registry.ts';

const PLATFORM: Platform = { os: 'linux', architecture: 'amd64' };
const OTHER: Platform = { os: 'linux', architecture: 'riscv64' };
const OCI = 'application/vnd.oci.image';
const DIFF_IDS = [digestOf('one'), digestOf('two')];

test('planImage() reads manifest and config, and gives each layer its chain ID', async () => {
  const image = imageOf(PLATFORM, DIFF_IDS);
  const { plan, host } = await planOf([image.manifest, image.config]);
  assert.equal(plan.names, [`${host}/team/app@${image.manifest.digest}`, `${host}/team/app:v1`]);
  assert.equal([plan.host, plan.repository, plan.index], [host, 'team/app', undefined]);
  assert.equal(
    plan.layers.map(({ diffId, chainId, compression }) => [diffId, chainId, compression]),
    chainIdsOf(DIFF_IDS).map((chainId, index) => [DIFF_IDS[index], chainId, 'gzip']),
  );
});

test('planImage() takes the manifest of this platform from an index, whose digest names the image', async () => {
  const [other, own] = [imageOf(OTHER, []), imageOf(PLATFORM, DIFF_IDS)];
  const index = indexOf([other.manifest, own.manifest]);
  const { plan, host, paths } = await planOf([index, own.manifest, own.config, other.manifest]);
  assert.is(plan.manifest.descriptor.digest, own.manifest.digest);
  assert.is(plan.index?.descriptor.digest, index.digest);
  assert.is(plan.target.digest, index.digest);
  assert.is(plan.names[0], `${host}/team/app@${index.digest}`);
  assert.not(paths.some((path) => path.includes(other.manifest.digest)));
});

test('planImage() refuses an index without this platform, as containerd does', async () => {
  const other = imageOf(OTHER, []);
  await assertFails(planOf([indexOf([other.manifest]), other.manifest]), ErrorCode.NotFound);
});

test('planImage() refuses a config with another number of diff IDs than layers', async () => {
  const image = imageOf(PLATFORM, DIFF_IDS, 3);
  await assertFails(planOf([image.manifest, image.config]), ErrorCode.ManifestInvalid);
});

test('planImage() refuses an index inside an index and leaves it to containerd', async () => {
  const image = imageOf(PLATFORM, DIFF_IDS);
  const inner = indexOf([image.manifest]);
  await assertFails(planOf([indexOf([inner]), inner, image.manifest, image.config]), ErrorCode.Unsupported);
});

test('planImage() asks for the manifest each time: that is the right to read', async () => {
  const image = imageOf(PLATFORM, DIFF_IDS);
  for (let round = 0; round < 2; round += 1) {
    const { paths } = await planOf([image.manifest, image.config]);
    assert.is(paths.filter((path) => path.endsWith('/manifests/v1')).length, 1);
  }
});

test.run();

interface Document {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly text: string;
  readonly platform?: Platform;
}

/** Serves the documents, the first of them under the tag, and plans a pull of it. */
async function planOf(
  documents: readonly Document[],
): Promise<{ plan: ImagePlan; host: string; paths: string[] }> {
  await using server = await startServer((request, response) => {
    const name = request.path.split('/').at(-1);
    const found = name === 'v1' ? documents[0] : documents.find(({ digest }) => digest === name);
    if (found === undefined) response.writeHead(404).end();
    else response.writeHead(200, { 'content-type': found.mediaType }).end(found.text);
  });
  const reference = parseReference(`${server.host}/team/app:v1`);
  await using origin = originOf(server, { reference });
  const plan = await planImage({ reference, origin }, PLATFORM, neverAborted());
  return { plan, host: server.host, paths: server.seen.map(({ path }) => path) };
}

function imageOf(platform: Platform, diffIds: readonly Digest[], layerCount = diffIds.length) {
  const rootfs = { type: 'layers', diff_ids: diffIds };
  const config = documentOf(`${OCI}.config.v1+json`, { ...platform, rootfs });
  const mediaType = `${OCI}.layer.v1.tar+gzip`;
  const layers = Array.from({ length: layerCount }, (_, index) => ({
    mediaType,
    digest: digestOf(`layer ${index}`),
    size: 100 + index,
  }));
  const content = { schemaVersion: 2, config: descriptorOf(config), layers };
  return { config, manifest: { ...documentOf(`${OCI}.manifest.v1+json`, content), platform } };
}

function indexOf(manifests: readonly Document[]): Document {
  const entries = manifests.map(descriptorOf);
  const content = { schemaVersion: 2, manifests: entries };
  return { ...documentOf(`${OCI}.index.v1+json`, content), platform: PLATFORM };
}

function documentOf(mediaType: string, content: object): Document {
  const text = JSON.stringify(content);
  return { mediaType, digest: digestOf(text), text };
}

function descriptorOf({
  mediaType,
  digest,
  text,
  platform,
}: Document): Omit<Descriptor, 'sizeBytes'> & { size: number } {
  return { mediaType, digest, size: text.length, ...(platform && { platform }) };
}
