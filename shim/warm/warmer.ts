import type { Logger } from 'pino';
import { abortable } from '../base/abortable.ts';
import { ErrorCode, isShoalError, ShoalError } from '../base/errors.ts';
import type { TransferCounts } from '../peer/transfer.ts';
import { NO_BYTES, type PullProgress } from '../pull/progress.ts';
import type { AheadOfPulls } from '../pull/pull-image.ts';
import type { WarmedLayers } from '../pull/warm-image.ts';
import { parseReference } from '../registry/reference.ts';
import type { ImagePlan } from '../store/image-store.ts';
import {
  type Attempt,
  type BringContext,
  type BringOptions,
  bringImage,
  isRefusal,
  type Job,
  stall,
} from './bring-image.ts';
import { WarmQueue, type WarmQueueLimits, type WarmWish } from './warm-queue.ts';

export interface WarmerOptions extends BringOptions {
  readonly limits: WarmQueueLimits;
  readonly onEnd: (end: WarmEnd) => void;
  readonly log: Logger;
  readonly nowMs: () => number;
}

/** How the warm-up of one image ended; it is over, or held for its pull. */
export interface WarmEnd {
  readonly image: string;
  readonly outcome: 'warmed' | 'present' | 'refused' | 'failed' | 'stopped';
  /** An error code, or `none`. */
  readonly reason: string;
  readonly seconds: number;
  readonly counts: TransferCounts;
}

/** Brings the images of pods ahead of their pulls: drives the queue. */
export class Warmer implements AheadOfPulls {
  readonly queue: WarmQueue;
  readonly #options: WarmerOptions;
  readonly #context: BringContext;
  readonly #jobs = new Map<string, Job>();
  readonly #releases = new Set<Promise<void>>();
  #expiry: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: WarmerOptions) {
    this.#options = options;
    this.queue = new WarmQueue(options.limits);
    this.#context = {
      ...options,
      wishesFor: (image) => this.queue.wishesFor(image),
      isJoined: (image) => this.queue.isJoined(image),
      release: (layers) => this.#release(layers),
    };
  }

  want(wish: WarmWish): void {
    const dropped = this.queue.want(wish);
    if (dropped > 0) this.#options.log.info({ podUid: wish.podUid, dropped }, 'too many images to warm');
    this.#pump();
  }

  forget(podUid: string): void {
    for (const image of this.queue.forget(podUid)) this.#drop(image);
    this.#pump();
  }

  /** A pull comes first: nothing is begun before the returned function is called. `image` is undefined where containerd pulls. */
  pullBegins(image: string | undefined): () => void {
    for (const each of this.queue.pullBegins(image)) this.#pause(each);
    let ended = false;
    return () => {
      if (ended) return;
      ended = true;
      for (const each of this.queue.pullEnds(image)) this.#drop(each);
      this.#pump();
    };
  }

  async join(plan: ImagePlan, progress: PullProgress, signal: AbortSignal): Promise<TransferCounts> {
    const job = this.#jobOf(plan);
    if (job === undefined) return NO_BYTES;
    this.queue.join(job.image);
    try {
      if (job.attempt !== undefined) await this.#await(job, job.attempt, plan, progress, signal);
      return job.plan?.target.digest === plan.target.digest ? job.brought : NO_BYTES;
    } finally {
      progress.follow(undefined);
      this.queue.leave(job.image);
    }
  }

  async settled(plan: ImagePlan): Promise<void> {
    const job = this.#jobOf(plan);
    if (job === undefined) return;
    this.queue.over(job.image);
    if (job.attempt === undefined) this.#jobs.delete(job.image);
    // One that runs still is for what the name meant before; it cleans up after itself.
    this.#stop(job);
    const { layers } = job;
    job.layers = undefined;
    // Where this fails, peers are served from the cache as before.
    await layers?.adopt().catch(() => undefined);
    this.#release(layers);
  }

  /** The disk is full: what waits for its pull makes room. */
  relieve(): void {
    for (const job of [...this.#jobs.values()]) {
      if (this.queue.stateOf(job.image) !== 'held' || this.queue.isJoined(job.image)) continue;
      this.queue.over(job.image);
      this.#drop(job.image);
    }
  }

  /** Credentials of the namespace turned up: what its registry refused before is tried with them. */
  reconsider(namespace: string, host: string): void {
    this.queue.reconsider(namespace, (image) => parseReference(image).host === host);
    this.#pump();
  }

  /** Stops everything and releases what is held. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#expiry);
    const jobs = [...this.#jobs.values()];
    for (const job of jobs) this.#stop(job);
    await Promise.all(jobs.map((job) => job.attempt?.ended));
    for (const job of jobs) this.#release(job.layers);
    this.#jobs.clear();
    await Promise.all(this.#releases);
  }

  #pump(): void {
    if (this.#closed) return;
    for (const image of this.queue.begin()) this.#begin(image);
    this.#watchExpiry();
  }

  #begin(image: string): void {
    const job = this.#jobs.get(image) ?? this.#addJob(image);
    const attempt: Attempt = {
      pause: new AbortController(),
      stop: new AbortController(),
      progress: undefined,
      ended: Promise.resolve(),
    };
    job.attempt = attempt;
    attempt.ended = this.#run(job, attempt).finally(() => {
      job.attempt = undefined;
      this.#pump();
    });
  }

  #addJob(image: string): Job {
    const job: Job = {
      image,
      reference: parseReference(image),
      refusedTo: new Set(),
      startedAtMs: this.#options.nowMs(),
      brought: NO_BYTES,
      plan: undefined,
      layers: undefined,
      attempt: undefined,
    };
    this.#jobs.set(image, job);
    return job;
  }

  /** Never rejects: a warm-up that fails is nobody's failure. */
  async #run(job: Job, attempt: Attempt): Promise<void> {
    try {
      const outcome = await bringImage(job, attempt, this.#context);
      if (outcome === 'paused') this.#keepIfWanted(job, this.queue.paused(job.image));
      else {
        const isHeld = outcome === 'warmed';
        const wanted = isHeld && this.queue.held(job.image, this.#options.nowMs());
        if (!isHeld) this.queue.over(job.image);
        this.#keepIfWanted(job, wanted);
        this.#report(job, { outcome, reason: 'none' });
      }
    } catch (error) {
      this.#failed(job, attempt, error);
    }
  }

  /** Waits while the attempt brings something new; else it is paused, and the pull goes on by itself. */
  async #await(
    job: Job,
    attempt: Attempt,
    plan: ImagePlan,
    progress: PullProgress,
    signal: AbortSignal,
  ): Promise<void> {
    const shown = attempt.progress;
    if (shown !== undefined && job.plan?.target.digest === plan.target.digest) {
      progress.follow(shown);
      await abortable(Promise.race([attempt.ended, stall(attempt, shown)]), signal, 'wait for a warm-up');
    }
    this.#pause(job.image);
    await abortable(attempt.ended, signal, 'wait for a warm-up');
  }

  #keepIfWanted(job: Job, wanted: boolean): void {
    if (wanted) return;
    this.#jobs.delete(job.image);
    this.#release(job.layers);
    job.layers = undefined;
  }

  #failed(job: Job, attempt: Attempt, error: unknown): void {
    const refused = isRefusal(error);
    const stopped = attempt.stop.signal.aborted;
    this.queue.over(job.image, refused);
    if (isShoalError(error, ErrorCode.CacheUnavailable, ErrorCode.StoreFailed)) this.relieve();
    const { layers } = job;
    job.layers = undefined;
    if (!refused || this.queue.stateOf(job.image) === undefined) this.#jobs.delete(job.image);
    this.#release(layers);
    const outcome = stopped ? 'stopped' : refused ? 'refused' : 'failed';
    const reason = stopped ? 'none' : isShoalError(error) ? error.code : 'internal';
    // A failure that is not one of ours is our bug: the logger writes its stack.
    if (!isShoalError(error)) this.#options.log.error({ image: job.image, error }, 'warm-up failed');
    else if (!stopped) this.#options.log.debug({ image: job.image, error }, 'warm-up failed');
    this.#report(job, { outcome, reason });
  }

  #report(job: Job, end: Pick<WarmEnd, 'outcome' | 'reason'>): void {
    const seconds = (this.#options.nowMs() - job.startedAtMs) / 1000;
    this.#options.onEnd({ image: job.image, ...end, seconds, counts: job.brought });
  }

  #pause(image: string): void {
    const paused = new ShoalError(ErrorCode.Cancelled, `Cannot warm "${image}" now: a pull comes first`);
    this.#jobs.get(image)?.attempt?.pause.abort(paused);
  }

  #stop(job: Job): void {
    const stopped = new ShoalError(ErrorCode.Cancelled, `Cannot warm "${job.image}": nobody wants it`);
    job.attempt?.stop.abort(stopped);
  }

  /** Stops what runs; what is held is released in the background. */
  #drop(image: string): void {
    const job = this.#jobs.get(image);
    if (job === undefined) return;
    this.#stop(job);
    if (job.attempt !== undefined) return;
    this.#jobs.delete(image);
    this.#release(job.layers);
    job.layers = undefined;
  }

  /** Nobody waits for it but `close`. */
  #release(layers: WarmedLayers | undefined): void {
    if (layers === undefined) return;
    const released = layers.release().finally(() => this.#releases.delete(released));
    this.#releases.add(released);
  }

  #watchExpiry(): void {
    clearTimeout(this.#expiry);
    const atMs = this.queue.nextExpiryMs;
    if (atMs === undefined) return;
    this.#expiry = setTimeout(
      () => {
        for (const image of this.queue.expire(this.#options.nowMs())) this.#drop(image);
        this.#pump();
      },
      Math.max(0, atMs - this.#options.nowMs()),
    ).unref();
  }

  /** By name, or by what the name resolved to: another name of the image has the same layers. */
  #jobOf(plan: ImagePlan): Job | undefined {
    const named = plan.names.map((name) => this.#jobs.get(name)).find((job) => job !== undefined);
    if (named !== undefined) return named;
    return [...this.#jobs.values()].find(
      (job) => job.plan?.target.digest === plan.target.digest && job.plan.host === plan.host,
    );
  }
}
