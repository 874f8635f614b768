import type { Logger } from 'pino';
import { isShoalError } from '../base/errors.ts';
import type { PullHandler, PullOutcome } from '../cri/pull-handler.ts';
import type { CriPullRequest } from '../cri/pull-request.ts';
import { decide, type PolicyDecision, type PolicyInput, type PolicySettings } from '../policy/policy.ts';
import { parseReference } from '../registry/reference.ts';
import type { PullEnd, PullService } from './pull-service.ts';

export interface CriPullHandlerOptions {
  readonly policy: PolicySettings;
  readonly pulls: PullService;
  readonly onDecision: (decision: PolicyDecision) => void;
  readonly log: Logger;
}

/** Decides about each PullImage by policy, and has those that may be accelerated pulled here. */
export function createCriPullHandler(options: CriPullHandlerOptions): PullHandler {
  return {
    async pull(request, signal) {
      const input = policyInputOf(request);
      if (input === undefined) return { kind: 'handOver', reason: 'invalid-reference' };
      const decision = decide(input, options.policy);
      report(options, request, decision);
      if (decision.action === 'pass') return { kind: 'handOver', reason: decision.reason };
      const { image, credentials, runtimeHandler } = request;
      return outcomeOf(await options.pulls.pull({ image, credentials, runtimeHandler }, signal));
    },
  };
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
