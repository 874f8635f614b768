import type { Logger } from 'pino';
import { ErrorCode, isShoalError } from '../base/errors.ts';
import type { PullHandler, PullOutcome } from '../cri/pull-handler.ts';
import type { CriPod, CriPullRequest } from '../cri/pull-request.ts';
import { decide, type PolicyDecision, type PolicyInput, type PolicySettings } from '../policy/policy.ts';
import { parseReference } from '../registry/reference.ts';
import type { PodWarming } from '../warm/pod-warming.ts';
import type { PullResult } from './control-protocol.ts';
import type { PullResults } from './pull-results.ts';
import type { PullEnd, PullService } from './pull-service.ts';

export interface CriPullHandlerOptions {
  /** As it is now: namespaces may be opted in while the agent runs. */
  readonly policy: () => PolicySettings;
  readonly pulls: PullService;
  /** Knows the pods of this node. */
  readonly pods: Pick<PodWarming, 'follow' | 'learn'>;
  readonly results: PullResults;
  /** Warming makes room for pulls that containerd does as well. */
  readonly onForeignPull: () => () => void;
  readonly onDecision: (decision: PolicyDecision) => void;
  readonly log: Logger;
}

/** Decides about each PullImage by policy, and has those that may be accelerated pulled here. */
export function createCriPullHandler(options: CriPullHandlerOptions): PullHandler {
  return {
    async pull(request, signal) {
      const known = { ...request, pod: request.pod ?? followedPod(options, request.image) };
      const input = policyInputOf(known);
      if (input === undefined) return pass(options, known, 'invalid-reference');
      const decision = decide(input, options.policy());
      report(options, known, decision);
      if (decision.action === 'pass') return pass(options, known, decision.reason);
      const { image, credentials, runtimeHandler } = known;
      const end = await options.pulls.pull({ image, credentials, runtimeHandler }, signal);
      options.pods.learn({ image, namespace: known.pod?.namespace, credentials, accepted: isAccepted(end) });
      options.results.publish(resultOf(known, end));
      return withRoom(options, outcomeOf(end));
    },
  };
}

/** A pull that names no pod belongs to one that lists its image, where that is clear. */
function followedPod(options: CriPullHandlerOptions, image: string): CriPod | undefined {
  const pod = options.pods.follow(image);
  if (pod === undefined) return undefined;
  return {
    name: pod.name,
    uid: pod.podUid,
    namespace: pod.namespace,
    labels: new Map(Object.entries(pod.labels)),
    annotations: new Map(Object.entries(pod.annotations)),
  };
}

/** containerd pulls from the start; how it ends is seen by the caller alone, so that the result says no more than why. */
function pass(options: CriPullHandlerOptions, request: CriPullRequest, reason: string): PullOutcome {
  const nothing = { origin: 0, peer: 0, cache: 0 };
  const result = { accelerated: false, reason, seconds: 0, bytes: nothing };
  options.results.publish({ ...askedBy(request), ...result, endedAtMs: Date.now() });
  return withRoom(options, { kind: 'handOver', reason });
}

function withRoom(options: CriPullHandlerOptions, outcome: PullOutcome): PullOutcome {
  if (outcome.kind !== 'handOver') return outcome;
  const ended = options.onForeignPull();
  const { whenAnswered } = outcome;
  return {
    ...outcome,
    whenAnswered: () => {
      ended();
      whenAnswered?.();
    },
  };
}

function resultOf(request: CriPullRequest, end: PullEnd): PullResult {
  const { seconds } = end;
  const common = { ...askedBy(request), seconds, endedAtMs: Date.now() };
  if (end.kind === 'failed')
    return {
      ...common,
      accelerated: false,
      reason: end.reason,
      bytes: { origin: 0, peer: 0, cache: 0 },
    };
  const { originBytes, peerBytes, cacheBytes } = end.result.broughtCounts;
  const bytes = { origin: originBytes, peer: peerBytes, cache: cacheBytes };
  return { ...common, accelerated: true, reason: 'accelerated', bytes };
}

function askedBy({
  image,
  p2pImage,
  pod,
}: CriPullRequest): Pick<PullResult, 'image' | 'podUid' | 'namespace'> {
  return {
    image: p2pImage ?? image,
    ...(pod !== undefined && pod.uid !== '' && { podUid: pod.uid }),
    ...(pod !== undefined && pod.namespace !== '' && { namespace: pod.namespace }),
  };
}

/** Undefined: the registry was not asked, or failed for another reason. */
function isAccepted(end: PullEnd): boolean | undefined {
  if (end.kind === 'done') return true;
  return isShoalError(end.error, ErrorCode.Unauthorized, ErrorCode.Forbidden) ? false : undefined;
}

/** Undefined for a reference that cannot be parsed: what is wrong with it is containerd's to say. */
function policyInputOf(request: CriPullRequest): PolicyInput | undefined {
  const { pod, imageAnnotations } = request;
  try {
    const { host, repository } = parseReference(request.image);
    return {
      registry: host,
      repository,
      namespace: pod?.namespace,
      podLabels: pod?.labels ?? new Map(),
      podAnnotations: pod?.annotations ?? new Map(),
      imageAnnotations,
    };
  } catch (error) {
    if (isShoalError(error)) return undefined;
    throw error;
  }
}

function report(options: CriPullHandlerOptions, request: CriPullRequest, decision: PolicyDecision): void {
  options.onDecision(decision);
  const { reason, optedInBy, wouldAccelerate } = decision;
  const facts = { image: request.image, namespace: request.pod?.namespace, reason, optedInBy };
  if (wouldAccelerate === undefined)
    options.log.debug({ ...facts, action: decision.action }, 'decided about a pull');
  else options.log.info({ ...facts, wouldAccelerate }, 'observed a pull');
}

function outcomeOf(end: PullEnd): PullOutcome {
  if (end.kind === 'failed') {
    if (end.verdict === 'return') throw end.error;
    return { kind: 'handOver', reason: end.reason };
  }
  const { finishedBy, imageId, release } = end.result;
  if (finishedBy === 'shoal') return { kind: 'pulled', imageRef: imageId };
  return { kind: 'handOver', reason: 'snapshotter', whenAnswered: () => void release() };
}
