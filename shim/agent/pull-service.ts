import type { Logger } from 'pino';
import { isShoalError } from '../base/errors.ts';
import { originImageOf, type P2pHostRule } from '../base/p2p-address.ts';
import { judgeFailure } from '../pull/hand-over.ts';
import { PullProgress, type PullSnapshot } from '../pull/progress.ts';
import { type PullDependencies, type PullResult, pullImage } from '../pull/pull-image.ts';
import type { Credentials, Origin } from '../registry/origin.ts';
import { formatReference, parseReference, type Reference } from '../registry/reference.ts';

/** More pulls at once than this wait for a place: each holds an origin connection pool and an import session. */
const PULLS_MAX = 32;

export interface PullOrder {
  readonly image: string;
  readonly credentials: Credentials | undefined;
  readonly runtimeHandler: string | undefined;
}

/** What a pull came to, for logs, counters and the one who asked. */
export type PullEnd = Outcome & { readonly seconds: number };

type Outcome =
  | { readonly kind: 'done'; readonly result: PullResult }
  | {
      readonly kind: 'failed';
      readonly verdict: 'return' | 'handOver';
      readonly reason: string;
      readonly error: unknown;
    };

export interface PullServiceOptions {
  readonly dependencies: PullDependencies;
  readonly openOrigin: (reference: Reference, credentials: Credentials | undefined) => Origin;
  /** An image that is named by a P2P address is pulled, and stored, under its origin's name. */
  readonly p2pRules: readonly P2pHostRule[];
  readonly log: Logger;
  readonly onEnd: (end: PullEnd) => void;
  /** Told of each pull, by its image's full name, and by the returned function of its end: warming makes room for it. */
  readonly onBegin?: (image: string) => () => void;
  readonly nowMs: () => number;
}

/** Runs accelerated pulls, whoever asks: CRI, the command line, a demo. */
export class PullService {
  readonly #options: PullServiceOptions;
  readonly #running = new Set<PullProgress>();
  readonly #waiting: (() => void)[] = [];

  constructor(options: PullServiceOptions) {
    this.#options = options;
  }

  /** The pulls under way. */
  snapshot(): readonly PullSnapshot[] {
    return [...this.#running].map((progress) => progress.snapshot());
  }

  /** Never rejects: what failed, and what should become of it, is in the result. */
  async pull(
    asked: PullOrder,
    signal: AbortSignal,
    progress = new PullProgress(asked.image),
  ): Promise<PullEnd> {
    const order = { ...asked, image: originImageOf(asked.image, this.#options.p2pRules) ?? asked.image };
    const startedMs = this.#options.nowMs();
    const ended = this.#options.onBegin?.(fullNameOf(order.image));
    await this.#enter(progress);
    const outcome = await this.#attempt(order, signal, progress);
    this.#leave(progress);
    ended?.();
    const end = { ...outcome, seconds: (this.#options.nowMs() - startedMs) / 1000 };
    this.#report(order, end);
    return end;
  }

  async #attempt(order: PullOrder, signal: AbortSignal, progress: PullProgress): Promise<Outcome> {
    let origin: Origin | undefined;
    try {
      const reference = parseReference(order.image);
      origin = this.#options.openOrigin(reference, order.credentials);
      const request = { reference, origin, progress, ...runtimeHandlerOf(order) };
      return { kind: 'done', result: await pullImage(this.#options.dependencies, request, signal) };
    } catch (error) {
      // Which hosts the credentials are for is known only after the first request.
      return { kind: 'failed', ...judgeFailure(error, origin?.hasCredentials ?? false), error };
    } finally {
      await origin?.close();
    }
  }

  async #enter(progress: PullProgress): Promise<void> {
    while (this.#running.size >= PULLS_MAX) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#running.add(progress);
  }

  #leave(progress: PullProgress): void {
    this.#running.delete(progress);
    this.#waiting.shift()?.();
  }

  #report(order: PullOrder, end: PullEnd): void {
    this.#options.onEnd(end);
    if (end.kind === 'done') logDone(this.#options.log, order, end);
    else logFailed(this.#options.log, order, end);
  }
}

/** What cannot be parsed fails in the attempt, with the reason. */
function fullNameOf(image: string): string {
  try {
    return formatReference(parseReference(image));
  } catch {
    return image;
  }
}

function logDone(log: Logger, order: PullOrder, end: PullEnd & { kind: 'done' }): void {
  const { digest, imageBytes, counts } = end.result;
  log.info({ image: order.image, digest, imageBytes, ...counts, seconds: end.seconds }, 'pulled');
}

/** A failure that is not one of ours is our bug: the logger writes its stack. */
function logFailed(log: Logger, order: PullOrder, end: PullEnd & { kind: 'failed' }): void {
  const { verdict, reason, error } = end;
  const text = verdict === 'handOver' ? 'handing the pull to containerd' : 'pull failed';
  log[isShoalError(error) ? 'warn' : 'error']({ image: order.image, verdict, reason, error }, text);
}

function runtimeHandlerOf(order: PullOrder): { runtimeHandler?: string } {
  return order.runtimeHandler === undefined ? {} : { runtimeHandler: order.runtimeHandler };
}
