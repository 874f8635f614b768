import { setTimeout as sleep } from 'node:timers/promises';
import { ErrorCode, isShoalError, ShoalError } from '../base/errors.ts';
import type { TransferCounts } from '../peer/transfer.ts';
import { addAttempts, PullProgress } from '../pull/progress.ts';
import { type PullDependencies, planInTime } from '../pull/pull-image.ts';
import { type WarmedLayers, warmImage } from '../pull/warm-image.ts';
import type { Credentials, Origin } from '../registry/origin.ts';
import type { Reference } from '../registry/reference.ts';
import type { ImagePlan } from '../store/image-store.ts';
import { type CredentialCandidate, nameOfCredentials } from './credential-candidate.ts';
import { throttleOrigin } from './throttled-origin.ts';
import type { WarmWish } from './warm-queue.ts';

/**
 * How long a pull waits for a warm-up of its image that brings nothing new: that one may read with credentials which have been
 * taken back, and the pull has its own, ms.
 */
const JOIN_STALL_MS = 5_000;
const JOIN_LOOK_MS = 100;

export interface BringOptions {
  readonly dependencies: PullDependencies;
  readonly openOrigin: (reference: Reference, credentials: Credentials | undefined) => Origin;
  /** What an image may be read with, the best first; nothing at all comes last by itself. */
  readonly candidates: (wishes: readonly WarmWish[], reference: Reference) => Promise<CredentialCandidate[]>;
  /** Slows down what is read for these pods. */
  readonly throttle: (wishes: readonly WarmWish[], bytes: number) => Promise<void> | undefined;
  /** Whether an image of so many compressed bytes may be brought without filling the disk. */
  readonly hasRoom: (imageBytes: number) => Promise<boolean>;
}

/** What the queue knows of an image while it is brought. */
export interface BringContext extends BringOptions {
  readonly wishesFor: (image: string) => readonly WarmWish[];
  readonly isJoined: (image: string) => boolean;
  readonly release: (layers: WarmedLayers | undefined) => void;
}

/** What is known of one image beyond its state in the queue. */
export interface Job {
  readonly image: string;
  readonly reference: Reference;
  /** Names of the credentials that were refused. */
  readonly refusedTo: Set<string>;
  readonly startedAtMs: number;
  /** Where the bytes of all attempts so far came from. */
  brought: TransferCounts;
  plan: ImagePlan | undefined;
  /** What attempts so far have left in the store. */
  layers: WarmedLayers | undefined;
  attempt: Attempt | undefined;
}

export interface Attempt {
  /** Ends it for now, and keeps what is complete. */
  readonly pause: AbortController;
  /** Ends it for good. */
  readonly stop: AbortController;
  /** Set while layers are on their way. */
  progress: PullProgress | undefined;
  ended: Promise<void>;
}

/** One attempt to bring an image, or what an earlier one has left to do. */
export async function bringImage(
  job: Job,
  attempt: Attempt,
  context: BringContext,
): Promise<'warmed' | 'present' | 'paused'> {
  const { pause, stop } = attempt;
  const either = AbortSignal.any([pause.signal, stop.signal]);
  try {
    if (await context.dependencies.store.has(job.image, either)) return 'present';
    return (await bring(job, attempt, context, either)) ? 'warmed' : 'paused';
  } catch (error) {
    if (pause.signal.aborted && !stop.signal.aborted && isShoalError(error)) return 'paused';
    throw error;
  }
}

export function isRefusal(error: unknown): boolean {
  return isShoalError(error, ErrorCode.Unauthorized, ErrorCode.Forbidden);
}

/** Resolves when an attempt has brought nothing new for too long, or has ended. */
export async function stall(attempt: Attempt, progress: PullProgress): Promise<void> {
  const read = (): number => progress.layers.reduce((sum, layer) => sum + layer.fetchedBytes, 0);
  let last = read();
  let idleMs = 0;
  while (attempt.progress === progress && idleMs < JOIN_STALL_MS) {
    await sleep(JOIN_LOOK_MS);
    const now = read();
    const isFetching = progress.layers.some((layer) => layer.phase === 'fetching');
    idleMs = now === last && isFetching ? idleMs + JOIN_LOOK_MS : 0;
    last = now;
  }
}

/** Tries one set of credentials after the other, each once. */
async function bring(
  job: Job,
  attempt: Attempt,
  context: BringContext,
  either: AbortSignal,
): Promise<boolean> {
  for (;;) {
    const candidate = await nextCandidate(job, context);
    const origin = openFor(job, candidate, context);
    try {
      job.plan ??= await plan(job, origin, context, either);
      return await bringLayers(job, attempt, context, { origin, plan: job.plan });
    } catch (error) {
      if (!isRefusal(error)) throw error;
      job.refusedTo.add(nameOfCredentials(candidate.credentials));
      candidate.onRefused?.();
      if (candidate === ANONYMOUS) throw error;
    } finally {
      await origin.close();
    }
  }
}

const ANONYMOUS: CredentialCandidate = { credentials: undefined };

async function nextCandidate(job: Job, context: BringContext): Promise<CredentialCandidate> {
  const offered = await context.candidates(context.wishesFor(job.image), job.reference);
  const untried = [...offered, ANONYMOUS].find(
    ({ credentials }) => !job.refusedTo.has(nameOfCredentials(credentials)),
  );
  if (untried !== undefined) return untried;
  throw new ShoalError(ErrorCode.Unauthorized, `Cannot warm "${job.image}": nothing left to read it with`);
}

/** A pull that waits for it is not slowed down by what the pod says about warming. */
function openFor(job: Job, { credentials }: CredentialCandidate, context: BringContext): Origin {
  const take = (bytes: number): Promise<void> | undefined =>
    context.isJoined(job.image) ? undefined : context.throttle(context.wishesFor(job.image), bytes);
  return throttleOrigin(context.openOrigin(job.reference, credentials), take);
}

async function plan(
  { image, reference }: Job,
  origin: Origin,
  { dependencies, hasRoom }: BringContext,
  signal: AbortSignal,
): Promise<ImagePlan> {
  const progress = new PullProgress(image);
  const found = await planInTime(dependencies, { reference, origin, progress }, signal);
  const imageBytes = found.layers.reduce((sum, layer) => sum + layer.descriptor.sizeBytes, 0);
  if (await hasRoom(imageBytes)) return found;
  throw new ShoalError(
    ErrorCode.LimitExceeded,
    `Cannot warm "${image}": the disk has no room to spare for ${imageBytes} bytes`,
  );
}

async function bringLayers(
  job: Job,
  attempt: Attempt,
  { dependencies, release }: BringContext,
  source: { readonly origin: Origin; readonly plan: ImagePlan },
): Promise<boolean> {
  const progress = new PullProgress(job.image);
  attempt.progress = progress;
  try {
    const signals = { pause: attempt.pause.signal, signal: attempt.stop.signal };
    const layers = await warmImage(dependencies, { ...source, progress }, signals);
    // Only now: what the earlier attempt left is under the new lease as well.
    release(job.layers);
    job.layers = layers;
    return layers.complete;
  } finally {
    attempt.progress = undefined;
    job.brought = addAttempts([job.brought, progress.snapshot().counts]);
  }
}
