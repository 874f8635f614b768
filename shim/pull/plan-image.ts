import { assert } from '../base/assert.ts';
import type { Descriptor, Platform, RawDocument } from '../base/descriptor.ts';
import { chainIdsOf } from '../base/digest.ts';
import {
  chooseManifest,
  type ImageConfig,
  type ImageManifest,
  parseImageConfig,
  parseManifest,
  parseTarget,
} from '../registry/manifest.ts';
import type { Origin } from '../registry/origin.ts';
import { canonicalNames, type Reference } from '../registry/reference.ts';
import type { ImagePlan, LayerPlan } from '../store/image-store.ts';
import { nameMissing } from './missing-content.ts';

export interface PlanRequest {
  readonly reference: Reference;
  readonly origin: Origin;
  readonly runtimeHandler?: string;
}

/**
 * Learns at the origin what the reference means for this platform. The request for the manifest is also the proof that
 * the caller may read the image: it is made every time, also when every byte is already on the node.
 */
export async function planImage(
  request: PlanRequest,
  platform: Platform,
  signal: AbortSignal,
): Promise<ImagePlan> {
  const { reference, origin } = request;
  const target = await origin.resolve(signal);
  const parsed = parseTarget(target);
  const index = parsed.kind === 'index' ? target : undefined;
  const manifest =
    parsed.kind === 'index'
      ? await fetchDocument(origin, 'manifest', chooseManifest(parsed, platform), signal)
      : target;
  const image = parsed.kind === 'index' ? parseManifest(manifest) : parsed;
  const config = await fetchDocument(origin, 'config', image.config, signal);
  return {
    names: canonicalNames(reference, target.descriptor.digest),
    target: target.descriptor,
    host: reference.host,
    repository: reference.repository,
    index,
    manifest,
    config,
    layers: layersOf(image, config),
    runtimeHandler: request.runtimeHandler,
  };
}

async function fetchDocument(
  origin: Origin,
  kind: 'manifest' | 'config',
  descriptor: Descriptor,
  signal: AbortSignal,
): Promise<RawDocument> {
  try {
    return await origin.document(kind, descriptor, signal);
  } catch (error) {
    throw nameMissing(error, descriptor);
  }
}

function layersOf(image: ImageManifest, config: RawDocument): LayerPlan[] {
  const { diffIds }: ImageConfig = parseImageConfig(config, image.layers.length);
  const chainIds = chainIdsOf(diffIds);
  return image.layers.map((layer, index) => {
    const [diffId, chainId] = [diffIds[index], chainIds[index]];
    assert(
      diffId !== undefined && chainId !== undefined,
      'a config has been checked to have as many diff IDs as layers',
    );
    return { ...layer, diffId, chainId };
  });
}
