import type { CriPullRequest } from './pull-request.ts';

/** What became of one PullImage. */
export type PullOutcome =
  /** The image is in containerd; `imageRef` is its ID, as containerd's own PullImage gives it. */
  | { readonly kind: 'pulled'; readonly imageRef: string }
  /** containerd's own PullImage shall have the request, byte for byte. Nothing of ours may hold it up then. */
  | {
      readonly kind: 'handOver';
      readonly reason: string;
      /** Called once when containerd has answered, or the caller has gone. */
      readonly whenAnswered?: () => void;
    };

/** The port through which the CRI endpoint has images pulled. */
export interface PullHandler {
  /**
   * Decides about one PullImage and carries it out.
   * @param signal Aborted when the caller gave up, its deadline has passed, or the endpoint closes.
   * @throws ShoalError for what is answered to the caller as it is; anything else thrown is handed over.
   */
  pull(request: CriPullRequest, signal: AbortSignal): Promise<PullOutcome>;
}
