import type { Observer } from './observer.ts';
import type { SimNode } from './sim-node.ts';

/** Quantiles of progress over nodes at one time, each 0 to 1. */
export interface ProgressSample {
  readonly seconds: number;
  readonly quantiles: readonly number[];
}

export interface Recording {
  /** When nodes finished, ascending, s of model time. */
  readonly doneSeconds: readonly number[];
  readonly nodeCount: number;
  /** Bytes a second that the origin sent, by bin. */
  readonly originRates: readonly number[];
  readonly binSeconds: number;
  readonly progress: readonly ProgressSample[];
}

export const PROGRESS_QUANTILES = [0.05, 0.25, 0.5, 0.75, 0.95] as const;
const BIN_MS = 250;

/** Writes down what the drawings show. */
export class Recorder implements Observer {
  readonly #originBytes: number[] = [];
  readonly #progress: ProgressSample[] = [];
  #nodes: readonly SimNode[] = [];

  onOriginBytes(_node: SimNode, _blob: unknown, sizeBytes: number, nowMs: number): void {
    const bin = Math.floor(nowMs / BIN_MS);
    this.#originBytes[bin] = (this.#originBytes[bin] ?? 0) + sizeBytes;
  }

  onSample(nodes: readonly SimNode[], nowMs: number): void {
    const shares = Float64Array.from(nodes.filter(isPuller), shareHeld).sort();
    if (shares.length === 0) return;
    const at = (quantile: number) => shares[Math.floor(quantile * (shares.length - 1))] ?? 0;
    this.#progress.push({ seconds: nowMs / 1000, quantiles: PROGRESS_QUANTILES.map(at) });
  }

  onEnd(nodes: readonly SimNode[]): void {
    this.#nodes = nodes;
  }

  get recording(): Recording {
    const done = this.#nodes.flatMap(({ doneMs }) => (doneMs === undefined ? [] : [doneMs / 1000]));
    const bins = Array.from(this.#originBytes, (bytes) => ((bytes ?? 0) / BIN_MS) * 1000);
    return {
      doneSeconds: done.sort((left, right) => left - right),
      nodeCount: Math.max(1, this.#nodes.filter(isPuller).length),
      originRates: bins,
      binSeconds: BIN_MS / 1000,
      progress: this.#progress,
    };
  }
}

function isPuller(node: SimNode): boolean {
  return node.stored.size > 0;
}

function shareHeld(node: SimNode): number {
  let held = 0;
  let chunks = 0;
  for (const stored of node.stored.values()) {
    held += stored.held;
    chunks += stored.blob.chunkCount;
  }
  return held / chunks;
}
