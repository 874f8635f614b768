/** Keys of labels and annotations under the configurable prefix. */
export interface AnnotationKeys {
  /** Label (and annotation) that opts in: `p2p`, or out: `off`. */
  readonly mode: string;
  /** Annotation that the webhook writes for the node. */
  readonly p2pConfig: string;
  /** Annotation in which a user limits the warming of a pod, such as `{"warmAtOnce":2,"throttleLimitMB":50}`. */
  readonly p2pLimits: string;
  /** Annotation of a copied secret that names the secret it was copied from. */
  readonly p2pSource: string;
}

export const DEFAULT_KEY_PREFIX = 'k8s.aliyun.com';

export function annotationKeys(keyPrefix: string): AnnotationKeys {
  return {
    mode: `${keyPrefix}/image-accelerate-mode`,
    p2pConfig: `${keyPrefix}/p2p-config`,
    p2pLimits: `${keyPrefix}/p2p-limits`,
    p2pSource: `${keyPrefix}/p2p-source`,
  };
}
