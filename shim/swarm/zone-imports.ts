import { Bitmap } from './bitmap.ts';
import type { ChunkRun, PeerId } from './messages.ts';

/** Zones told apart for one blob; what further ones hold counts nowhere, so they are granted no imports. */
const ZONES_MAX = 16;
/** Imports of a node under way at once; more when its zone has few nodes. */
const IMPORTS_PER_NODE = 2;
/** Imports of a zone under way at once. */
const IMPORTS_PER_ZONE = 64;

interface Import {
  readonly peer: PeerId;
  readonly run: ChunkRun;
  readonly expiresMs: number;
}

interface Zone {
  /** Participants. */
  nodes: number;
  /** Per chunk: participants of the zone that hold it. */
  readonly holders: Uint16Array;
  /** Chunks with a holder in the zone. */
  heldCount: number;
  /** Chunks that some node of the zone was told to fetch from another zone. */
  readonly importing: Bitmap;
  readonly imports: Set<Import>;
}

/**
 * A directory's view of zones for one blob. Links between zones are dear: what a zone lacks and another holds is fetched by one
 * of its nodes, which is told so (an import), and passed on inside.
 */
export class ZoneImports {
  readonly #zones = new Map<string, Zone>();
  /** Per chunk: who reported it last. */
  readonly #lastHolder: (PeerId | undefined)[];
  /** Its zone. */
  readonly #lastZone: (string | undefined)[];
  /** Chunks that any zone ever held. */
  #heldCount = 0;

  constructor(chunkCount: number) {
    this.#lastHolder = new Array(chunkCount).fill(undefined);
    this.#lastZone = new Array(chunkCount).fill(undefined);
  }

  /** Chunks that the zone may import now. */
  wantedBy(zone: string): number[] {
    const known = this.#zones.get(zone);
    if (known === undefined || known.heldCount + known.importing.count >= this.#heldCount) return [];
    const wanted: number[] = [];
    for (let chunk = 0; chunk < this.#lastHolder.length; chunk++) {
      if (this.sourceOf(zone, chunk) !== undefined) wanted.push(chunk);
    }
    return wanted;
  }

  get hasWanted(): boolean {
    if (!this.isDivided) return false;
    for (const zone of this.#zones.values())
      if (zone.heldCount + zone.importing.count < this.#heldCount) return true;
    return false;
  }

  /** Whether there is anything to import from anywhere. Nodes that do not know their zone count for none. */
  get isDivided(): boolean {
    return this.#zones.size > 1;
  }

  zoneNames(): Iterable<string> {
    return this.#zones.keys();
  }

  enter(zone: string): void {
    if (zone === '') return;
    const known = this.#zones.get(zone);
    if (known !== undefined) known.nodes++;
    else if (this.#zones.size < ZONES_MAX) {
      const { length } = this.#lastHolder;
      const [holders, importing] = [new Uint16Array(length), new Bitmap(length)];
      this.#zones.set(zone, { nodes: 1, holders, importing, heldCount: 0, imports: new Set() });
    }
  }

  leave(zone: string, peer: PeerId): void {
    const known = this.#zones.get(zone);
    if (known === undefined) return;
    for (const each of known.imports) if (each.peer === peer) this.#end(known, each);
    if (--known.nodes === 0) this.#zones.delete(zone);
  }

  hold(zone: string, chunk: number, peer: PeerId): void {
    const known = this.#zones.get(zone);
    if (known === undefined) return;
    if (known.holders[chunk] === 0) known.heldCount++;
    if (this.#lastHolder[chunk] === undefined) this.#heldCount++;
    known.holders[chunk] = (known.holders[chunk] as number) + 1;
    known.importing.delete(chunk);
    this.#lastHolder[chunk] = peer;
    this.#lastZone[chunk] = zone;
  }

  drop(zone: string, chunk: number): void {
    const known = this.#zones.get(zone);
    if (known === undefined || known.holders[chunk] === 0) return;
    known.holders[chunk] = (known.holders[chunk] as number) - 1;
    if (known.holders[chunk] === 0) known.heldCount--;
  }

  /** Who of another zone is likeliest to have the chunk, should this zone import it now; undefined when it should not. */
  sourceOf(zone: string, chunk: number): { readonly peer: PeerId; readonly zone: string } | undefined {
    const known = this.#zones.get(zone);
    const peer = this.#lastHolder[chunk];
    const from = this.#lastZone[chunk];
    if (known === undefined || peer === undefined || from === undefined || from === zone) return undefined;
    if ((known.holders[chunk] as number) > 0 || known.importing.has(chunk)) return undefined;
    return { peer, zone: from };
  }

  hasRoom(zone: string, peer: PeerId): boolean {
    const known = this.#zones.get(zone);
    if (known === undefined || known.imports.size >= IMPORTS_PER_ZONE) return false;
    let own = 0;
    for (const each of known.imports) if (each.peer === peer) own++;
    return own < Math.max(IMPORTS_PER_NODE, Math.ceil(IMPORTS_PER_ZONE / known.nodes));
  }

  start(zone: string, each: Import): void {
    const known = this.#zones.get(zone);
    if (known === undefined) return;
    known.imports.add(each);
    for (let index = 0; index < each.run.chunkCount; index++)
      known.importing.add(each.run.firstChunk + index);
  }

  /** Forgets imports that are done or took too long. When the next one expires, ms. */
  sweep(nowMs: number): number {
    let nextMs = Number.POSITIVE_INFINITY;
    for (const zone of this.#zones.values()) {
      for (const each of zone.imports) {
        const isOpen = zone.importing.firstPresent(each.run.firstChunk, endOf(each.run)) !== undefined;
        if (!isOpen || nowMs >= each.expiresMs) this.#end(zone, each);
        else nextMs = Math.min(nextMs, each.expiresMs);
      }
    }
    return nextMs;
  }

  #end(zone: Zone, each: Import): void {
    zone.imports.delete(each);
    for (let chunk = each.run.firstChunk; chunk < endOf(each.run); chunk++) zone.importing.delete(chunk);
  }
}

function endOf({ firstChunk, chunkCount }: ChunkRun): number {
  return firstChunk + chunkCount;
}
