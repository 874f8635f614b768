import { type Observer, Violation } from '../observer.ts';
import type { SimBlob } from '../sim-blob.ts';
import type { SimNode } from '../sim-node.ts';
import type { WorldOptions } from '../world-options.ts';

/** Nobody stores, or reads at the origin, what it does not want. */
export class WantedChecker implements Observer {
  readonly #idle: ReadonlySet<number>;
  readonly #unwanted: WorldOptions['unwanted'];

  constructor({ idle, unwanted }: WorldOptions) {
    this.#idle = new Set(idle);
    this.#unwanted = unwanted;
  }

  onStored(node: SimNode, blob: SimBlob): void {
    this.#check(node, blob, 'stored');
  }

  onOriginRequest(node: SimNode, blob: SimBlob): void {
    this.#check(node, blob, 'read at the origin');
  }

  #check(node: SimNode, blob: SimBlob, what: string): void {
    const isUnwanted = this.#idle.has(node.index) || this.#unwanted?.get(node.index)?.includes(blob.index);
    if (isUnwanted)
      throw new Violation(`node ${node.index} ${what} blob ${blob.index}, which it does not want`);
  }
}
