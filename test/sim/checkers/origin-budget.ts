import { imageBytesOf } from '../bound.ts';
import { type Observer, Violation } from '../observer.ts';
import type { SimBlob } from '../sim-blob.ts';
import type { SimNode } from '../sim-node.ts';
import type { Fault, WorldOptions } from '../world-options.ts';

/** Without faults: one copy and what a rare race costs. */
const COPIES = 1.05;
/** A fault may cost this many further copies at most: both sides of a partition read one each, who is deceived reads alone. */
const COPIES_PER_FAULT: Readonly<Record<Fault['kind'], number>> = {
  crash: 0.5,
  restart: 0.5,
  freeze: 1,
  lie: 2,
  busy: 1,
  slowLink: 0.5,
  slowDisk: 0.5,
  partition: 2,
  loss: 0.5,
  originDown: 0.5,
  clockSkew: 0.5,
  views: 2,
  heal: 1,
};

/** The origin sends little more than each byte once; faults have a price, and it is bounded by what each of them can do. */
export class OriginBudgetChecker implements Observer {
  readonly #imageBytes: number;
  readonly #budgetBytes: number;
  #sentBytes = 0;

  constructor(options: WorldOptions) {
    this.#imageBytes = imageBytesOf(options);
    this.#budgetBytes = budgetCopies(options) * this.#imageBytes;
  }

  onOriginBytes(node: SimNode, _blob: SimBlob, sizeBytes: number, nowMs: number): void {
    // Whose bytes proved wrong reads all again, alone: that is the cure, and not the swarm's budget.
    if ([...node.stored.values()].some(({ isDistrusted }) => isDistrusted)) return;
    this.#sentBytes += sizeBytes;
    if (this.#sentBytes <= this.#budgetBytes) return;
    const copies = (this.#budgetBytes / this.#imageBytes).toFixed(2);
    throw new Violation(`the origin sent more than ${copies} copies within ${Math.round(nowMs)} ms`);
  }
}

function budgetCopies({ faults = [], nodes }: WorldOptions): number {
  const price = faults.reduce((sum, { kind }) => sum + COPIES_PER_FAULT[kind], 0);
  // Never more than a copy for each life of each node: that is what it would be without a swarm.
  return Math.min(COPIES + price, 2 * nodes);
}
