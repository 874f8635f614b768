import type { Config } from '../config/settings.ts';
import type { PolicySettings } from '../policy/policy.ts';
import { parseReference } from '../registry/reference.ts';

/** Sandbox images bear this name in every distribution of Kubernetes; they are tiny, and pods cannot start without. */
const SANDBOX_IMAGES = ['*/pause'];

/** Policy as configured. */
export function policySettingsOf(config: Config): PolicySettings {
  const { image, imageTag } = config.p2p.v2;
  const own = config.policy.ownImage || (image !== '' && imageTag !== '' ? `${image}:${imageTag}` : image);
  return {
    mode: config.policy.mode,
    keyPrefix: config.policy.keyPrefix,
    registries: config.policy.registries,
    namespaces: config.policy.namespaces,
    sandboxImages: SANDBOX_IMAGES,
    agentImages: own === '' ? [] : [repositoryOf(own)],
  };
}

function repositoryOf(image: string): string {
  const { host, repository } = parseReference(image);
  return `${host}/${repository}`;
}
