import type { AdmissionDecision, PatchStep } from './admission.ts';
import { type AdmittedPod, asObject, readPod } from './pod.ts';

/** What the API server asks (admission.k8s.io/v1), as far as it is looked at. */
export type ReviewRequest =
  | { readonly kind: 'pod'; readonly uid: string; readonly pod: AdmittedPod }
  /** Something to be let through unseen. */
  | { readonly kind: 'other'; readonly uid: string; readonly why: ReviewProblem };

/** Why a request was let through unseen: a closed set, used as a metric label. */
export type ReviewProblem = 'not-json' | 'not-a-review' | 'not-a-pod-creation' | 'malformed-pod';

/** kube-apiserver sends UUIDs. */
const UID_LENGTH_MAX = 128;
/** The API server cuts all warnings of a request at 4096 characters, and advises 120 for each. */
const WARNING_LENGTH_MAX = 200;
const uidAtStart = /"request"\s*:\s*\{\s*"uid"\s*:\s*"([\w.-]{1,128})"/;
/** In a request of the API server the uid is among the first 200 bytes. */
const HEAD_BYTES = 4096;

/** Reads an AdmissionReview. Never throws, whatever was sent. */
export function readReview(body: Buffer): ReviewRequest {
  let value: unknown;
  try {
    value = JSON.parse(body.toString('utf8'));
  } catch {
    return { kind: 'other', uid: guessUid(body), why: 'not-json' };
  }
  const review = asObject(value);
  const request = asObject(review?.request);
  const uid = request?.uid;
  if (review?.kind !== 'AdmissionReview' || typeof uid !== 'string' || uid.length > UID_LENGTH_MAX)
    return { kind: 'other', uid: guessUid(body), why: 'not-a-review' };
  if (!isPodCreation(request ?? {})) return { kind: 'other', uid, why: 'not-a-pod-creation' };
  const pod = readPod(request?.object);
  return pod === undefined ? { kind: 'other', uid, why: 'malformed-pod' } : { kind: 'pod', uid, pod };
}

/**
 * The uid that a request starts with, when the rest of it is not there or not JSON: an answer counts only with the uid of
 * its request. Empty where there is none.
 */
export function guessUid(head: Buffer): string {
  return uidAtStart.exec(head.toString('latin1', 0, HEAD_BYTES))?.[1] ?? '';
}

/** An answer that lets the pod through unchanged. */
export function formatAllowed(uid: string, warnings: readonly string[] = []): string {
  return formatReview(uid, [], warnings);
}

/** An answer that lets the pod through with a decision's changes. */
export function formatDecision(uid: string, { patch, warnings }: AdmissionDecision): string {
  return formatReview(uid, patch, warnings);
}

function formatReview(uid: string, patch: readonly PatchStep[], warnings: readonly string[]): string {
  const changes = patch.length > 0 && {
    patchType: 'JSONPatch',
    patch: Buffer.from(JSON.stringify(patch)).toString('base64'),
  };
  const told = warnings.length > 0 && { warnings: warnings.map(toWarning) };
  return JSON.stringify({
    apiVersion: 'admission.k8s.io/v1',
    kind: 'AdmissionReview',
    response: { uid, allowed: true, ...changes, ...told },
  });
}

/** A header's value, so printable ASCII in one line. */
function toWarning(text: string): string {
  return `shoal: ${text}`.replaceAll(/[^\x20-\x7e]/g, '?').slice(0, WARNING_LENGTH_MAX);
}

function isPodCreation(request: Readonly<Record<string, unknown>>): boolean {
  const kind = asObject(request.kind);
  const subResource = request.subResource ?? '';
  return (
    kind?.group === '' &&
    kind.version === 'v1' &&
    kind.kind === 'Pod' &&
    request.operation === 'CREATE' &&
    subResource === ''
  );
}
