import { matchesGlob } from '../base/glob.ts';

/** What the operator wants accelerated on this node. */
export interface PolicySettings {
  /**
   * `opt-in`: what pods and callers ask for. `all`: everything that is not excluded. `off`: nothing.
   * `observe`: nothing, but the decision of `opt-in` is reported.
   */
  readonly mode: PolicyMode;
  /** Prefix of the opt-in key: `<keyPrefix>/image-accelerate-mode`. Default `k8s.aliyun.com`. */
  readonly keyPrefix: string;
  readonly registries: AllowDeny;
  readonly namespaces: AllowDeny & {
    /** Namespaces whose pods are opted in without saying so themselves. */
    readonly optIn: readonly string[];
  };
  /** Repositories (`host/path`) of sandbox images, as containerd is configured, whatever their tags. */
  readonly sandboxImages: readonly string[];
  /** Repositories (`host/path`) of the agent's own images. */
  readonly agentImages: readonly string[];
}

export type PolicyMode = 'opt-in' | 'all' | 'off' | 'observe';

/**
 * Patterns are exact names, or globs in which `*` stands for any run of characters. A name on `deny` is excluded; an
 * `allow` list that is not empty excludes every name that is not on it.
 */
export interface AllowDeny {
  readonly allow: readonly string[];
  readonly deny: readonly string[];
}

/** One pull, as far as the policy looks at it. */
export interface PolicyInput {
  /** Registry host of the normalised reference, with its port if it names one: `docker.io`, `registry.test:5000`. */
  readonly registry: string;
  /** Path of the normalised reference in that registry: `library/nginx`. */
  readonly repository: string;
  /** Namespace of the pod; undefined when no pod is known. */
  readonly namespace: string | undefined;
  readonly podLabels: ReadonlyMap<string, string>;
  readonly podAnnotations: ReadonlyMap<string, string>;
  readonly imageAnnotations: ReadonlyMap<string, string>;
}

/** Why a pull is or is not accelerated: a closed set, used in logs and as a metric label. */
export const POLICY_REASONS = [
  'opted-out',
  'mode-off',
  'sandbox-image',
  'agent-image',
  'registry-denied',
  'registry-not-allowed',
  'namespace-denied',
  'namespace-not-allowed',
  'mode-all',
  'opted-in',
  'not-opted-in',
] as const;
export type PolicyReason = (typeof POLICY_REASONS)[number];

/** Where the opt-in (or the opt-out) was found. */
export type OptInSource = 'pod-label' | 'pod-annotation' | 'image-annotation' | 'namespace';

export interface PolicyDecision {
  readonly action: 'accelerate' | 'pass';
  readonly reason: PolicyReason;
  /** Set for `opted-in` and `opted-out`, and in mode `all` when there was an opt-in as well. */
  readonly optedInBy: OptInSource | undefined;
  /** What would have been done. Only in mode `observe`, where `action` is always `pass`. */
  readonly wouldAccelerate: boolean | undefined;
}

const KEY_NAME = 'image-accelerate-mode';
const OPT_IN_VALUE = 'p2p';
const OPT_OUT_VALUE = 'off';

/**
 * Decides whether one pull is accelerated. The rules, first match wins: the pod says `off`; the mode is `off`; sandbox
 * and agent images; registry lists; namespace lists; mode `all`; opt-in. A pull without a pod is subject to the
 * namespace lists only in that it matches no name.
 */
export function decide(input: PolicyInput, settings: PolicySettings): PolicyDecision {
  const marks = findMarks(input, settings);
  const optedOut = marks.find((mark) => mark.value === OPT_OUT_VALUE);
  if (optedOut !== undefined) return conclude('opted-out', optedOut.source, settings);
  const optedInBy = marks.find((mark) => mark.value === OPT_IN_VALUE)?.source;
  const exclusion = settings.mode === 'off' ? 'mode-off' : findExclusion(input, settings);
  if (exclusion !== undefined) return conclude(exclusion, undefined, settings);
  if (optedInBy !== undefined && settings.mode !== 'all') return conclude('opted-in', optedInBy, settings);
  if (settings.mode === 'all') return conclude('mode-all', optedInBy, settings);
  return conclude('not-opted-in', undefined, settings);
}

const ACCELERATED: ReadonlySet<PolicyReason> = new Set<PolicyReason>(['mode-all', 'opted-in']);

function conclude(
  reason: PolicyReason,
  optedInBy: OptInSource | undefined,
  settings: PolicySettings,
): PolicyDecision {
  const accelerate = ACCELERATED.has(reason);
  if (settings.mode === 'observe') return { action: 'pass', reason, optedInBy, wouldAccelerate: accelerate };
  return { action: accelerate ? 'accelerate' : 'pass', reason, optedInBy, wouldAccelerate: undefined };
}

interface Mark {
  readonly source: OptInSource;
  readonly value: string | undefined;
}

/** What was said about this pull, the most specific first. */
function findMarks(input: PolicyInput, settings: PolicySettings): Mark[] {
  const key = `${settings.keyPrefix}/${KEY_NAME}`;
  const named = input.namespace !== undefined && matchesAny(settings.namespaces.optIn, input.namespace);
  return [
    { source: 'pod-label', value: input.podLabels.get(key) },
    { source: 'pod-annotation', value: input.podAnnotations.get(key) },
    { source: 'image-annotation', value: input.imageAnnotations.get(key) },
    { source: 'namespace', value: named ? OPT_IN_VALUE : undefined },
  ];
}

function findExclusion(input: PolicyInput, settings: PolicySettings): PolicyReason | undefined {
  const name = `${input.registry}/${input.repository}`;
  if (matchesAny(settings.sandboxImages, name)) return 'sandbox-image';
  if (matchesAny(settings.agentImages, name)) return 'agent-image';
  const { registries, namespaces } = settings;
  if (matchesAny(registries.deny, input.registry)) return 'registry-denied';
  if (registries.allow.length > 0 && !matchesAny(registries.allow, input.registry))
    return 'registry-not-allowed';
  const namespace = input.namespace;
  if (namespace !== undefined && matchesAny(namespaces.deny, namespace)) return 'namespace-denied';
  if (namespaces.allow.length === 0) return undefined;
  const allowed = namespace !== undefined && matchesAny(namespaces.allow, namespace);
  return allowed ? undefined : 'namespace-not-allowed';
}

function matchesAny(patterns: readonly string[], name: string): boolean {
  return patterns.some((pattern) => matchesGlob(pattern, name));
}
